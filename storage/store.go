package storage

import "strings"

// A Store is a kind of object store.
type Store string

// The stores that skyagent has. SkyPilot does not know File, a directory.
const (
	S3   Store = "s3"
	GCS  Store = "gcs"
	R2   Store = "r2"
	File Store = "file"
)

// Scheme returns the scheme of the URLs of the store's buckets.
func (s Store) Scheme() string {
	if s == GCS {
		return "gs"
	}
	return string(s)
}

// stores are those that a task may name, by the lower-case name.
var stores = map[string]Store{"s3": S3, "gcs": GCS, "r2": R2, "file": File}

// schemes are those of URIs that a task may name.
var schemes = map[string]Store{"s3": S3, "gs": GCS, "r2": R2}

// foreign are the stores and schemes that SkyPilot knows and skyagent has not.
var foreign = []string{"azure", "https", "ibm", "cos", "oci", "nebius", "coreweave", "cw", "vastdata", "hf", "volume"}

const supported = "skyagent has s3 (s3://), gcs (gs://), r2 (r2://) and file"

// scheme returns the lower-case scheme of a URI, and "" for a path.
func scheme(s string) string {
	head, _, ok := strings.Cut(s, "://")
	if !ok || head == "" {
		return ""
	}
	for _, c := range []byte(strings.ToLower(head)) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("+-.", c) >= 0) {
			return ""
		}
	}
	return strings.ToLower(head)
}
