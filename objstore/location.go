package objstore

import (
	"fmt"
	"net/url"
	"path"
	"strings"
)

// A Location says where a bucket is: what a user writes as a URL.
//
//	file:///srv/bucket
//	s3://bucket/prefix?endpoint=http://127.0.0.1:7070&region=eu-west-1
type Location struct {
	Scheme string     // "file", "s3", "gs"; which ones can be opened is open.Bucket's to say
	Bucket string     // the bucket's name; for file the absolute, clean path
	Prefix string     // "" or a clean prefix of all keys, without slashes around it; "" for file
	Params url.Values // what stands behind "?"
}

// ParseLocation reads a URL. The error is one line that names the URL.
func ParseLocation(s string) (Location, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || scheme == "" {
		return Location{}, fmt.Errorf("bucket URL %q: no scheme; write file:///PATH or s3://BUCKET[/PREFIX]", s)
	}
	rest, query, _ := strings.Cut(rest, "?")
	params, err := url.ParseQuery(query)
	if err != nil {
		return Location{}, fmt.Errorf("bucket URL %q: %w", s, err)
	}
	l := Location{Scheme: strings.ToLower(scheme), Params: params}
	if err := l.setPath(rest); err != nil {
		return Location{}, fmt.Errorf("bucket URL %q: %w", s, err)
	}
	return l, nil
}

// setPath reads what stands between "://" and "?". It is taken literally: a
// directory and a prefix may hold any character but "?", "%" included.
func (l *Location) setPath(s string) error {
	if l.Scheme == "file" {
		if !strings.HasPrefix(s, "/") {
			return fmt.Errorf("path %q is relative; write file:///PATH with three slashes", s)
		}
		l.Bucket = path.Clean(s)
		return nil
	}
	bucket, prefix, _ := strings.Cut(s, "/")
	if bucket == "" {
		return fmt.Errorf("no bucket; write %s://BUCKET[/PREFIX]", l.Scheme)
	}
	l.Bucket, l.Prefix = bucket, strings.Trim(prefix, "/")
	if l.Prefix != "" && (path.Clean(l.Prefix) != l.Prefix || strings.HasPrefix(l.Prefix, "..")) {
		return fmt.Errorf("prefix %q is not clean", prefix)
	}
	return nil
}

// Name returns the bucket and the prefix, "models/team-a", or the path.
func (l Location) Name() string {
	if l.Prefix == "" {
		return l.Bucket
	}
	return l.Bucket + "/" + l.Prefix
}

// URL returns the location without its parameters, "s3://models/team-a".
func (l Location) URL() string { return l.Scheme + "://" + l.Name() }

// String returns the location in its canonical form, which ParseLocation reads
// back to the same value. Two locations are the same when their strings are.
func (l Location) String() string {
	if len(l.Params) == 0 {
		return l.URL()
	}
	return l.URL() + "?" + l.Params.Encode()
}
