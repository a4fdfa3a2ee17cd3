package storage

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

var (
	s3Name    = regexp.MustCompile(`^[a-z0-9][-a-z0-9.]*[a-z0-9]$`)
	gcsName   = regexp.MustCompile(`^[a-z0-9][-a-z0-9._]*[a-z0-9]$`)
	ipAddress = regexp.MustCompile(`^(?:\d{1,3}\.){3}\d{1,3}$`)
)

// CheckName says what keeps name from being a bucket's name in a store:
// SkyPilot's rules, which hold for buckets that are there already, too.
func CheckName(store Store, name string) error {
	switch store {
	case S3, R2:
		return checkS3Name(name)
	case GCS:
		return checkGCSName(name)
	}
	return checkFileName(name)
}

// CheckNewName says what keeps a bucket of that name from being made. It has
// the stores' own rules that SkyPilot misses.
func CheckNewName(store Store, name string) error {
	if err := CheckName(store, name); err != nil {
		return err
	}
	switch store {
	case S3:
		return checkReservedName(name)
	case R2:
		if strings.Contains(name, ".") {
			return badName(name, "must not contain dots: R2 allows lowercase letters, numbers and hyphens (-)")
		}
	}
	return nil
}

func badName(name, rule string) error {
	return fmt.Errorf("invalid store name: name %q %s", name, rule)
}

func checkS3Name(name string) error {
	switch {
	case len(name) < 3 || len(name) > 63:
		return badName(name, "must be between 3 (min) and 63 (max) characters long")
	case !s3Name.MatchString(name):
		return badName(name, "can consist only of lowercase letters, numbers, dots (.), and hyphens (-). It must begin and end with a letter or number")
	case strings.Contains(name, ".."):
		return badName(name, "must not contain two adjacent periods")
	case ipAddress.MatchString(name):
		return badName(name, "must not be formatted as an IP address (for example, 192.168.5.4)")
	case strings.HasPrefix(name, "xn--"):
		return badName(name, `must not start with the prefix "xn--"`)
	}
	return checkSuffix(name, "-s3alias", "--ol-s3")
}

// checkReservedName has what Amazon reserves for itself.
func checkReservedName(name string) error {
	for _, prefix := range []string{"sthree-", "amzn-s3-demo-"} {
		if strings.HasPrefix(name, prefix) {
			return badName(name, fmt.Sprintf("must not start with the prefix %q", prefix))
		}
	}
	return checkSuffix(name, ".mrap", "--x-s3", "--table-s3")
}

func checkSuffix(name string, suffixes ...string) error {
	for _, suffix := range suffixes {
		if strings.HasSuffix(name, suffix) {
			return badName(name, fmt.Sprintf("must not end with the suffix %q", suffix))
		}
	}
	return nil
}

func checkGCSName(name string) error {
	switch {
	case len(name) < 3 || len(name) > 222:
		return badName(name, "must contain 3-222 characters")
	case !gcsName.MatchString(name):
		return badName(name, "can only contain lowercase letters, numeric characters, dashes (-), underscores (_), and dots (.). "+
			"Spaces are not allowed. Names must start and end with a number or letter")
	case strings.Contains(name, ".."), strings.Contains(name, ".-"), strings.Contains(name, "-."):
		return badName(name, "must not contain two adjacent periods or a dot next to a hyphen")
	case ipAddress.MatchString(name):
		return badName(name, "must not be formatted as an IP address (for example, 192.168.5.4)")
	case strings.HasPrefix(name, "goog"):
		return badName(name, `cannot begin with the "goog" prefix`)
	}
	for _, google := range []string{"google", "g00gle", "go0gle", "g0ogle"} {
		if strings.Contains(name, google) {
			return badName(name, `cannot contain "google" in various forms`)
		}
	}
	for part := range strings.SplitSeq(name, ".") {
		if len(part) > 63 {
			return badName(name, "has dot-separated components longer than 63 characters")
		}
	}
	return nil
}

// checkFileName: the name becomes a directory's.
func checkFileName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return badName(name, "cannot be a directory's name")
	case len(name) > 255:
		return badName(name, "must be at most 255 bytes long")
	case strings.ContainsAny(name, `/\`):
		return badName(name, "must not contain slashes")
	case strings.ContainsFunc(name, unicode.IsControl):
		return badName(name, "must not contain control characters")
	}
	return nil
}
