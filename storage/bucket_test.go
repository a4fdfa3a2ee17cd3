package storage_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/storage"
)

// SkyPilot's rules for buckets that others made.
func TestJudge(t *testing.T) {
	b := newBench(t)
	const byName, uploaded, byURI = "{name: bkt, store: s3}", "{name: bkt, store: s3, source: ~/dir}", "{source: s3://bkt}"
	for _, tc := range []struct {
		fields string
		bucket storage.Bucket
		use    storage.Use
		want   string
	}{
		{byName, storage.Bucket{Exists: true}, "", "attempted to mount a non-sky managed bucket"},
		{byName, storage.Bucket{Exists: true, Made: storage.S3}, storage.Ours, ""},
		{byName, storage.Bucket{}, storage.Make, ""},
		{byName, storage.Bucket{Made: storage.S3}, storage.Make, ""}, // deleted elsewhere
		{uploaded, storage.Bucket{Exists: true}, storage.Theirs, ""},
		{uploaded, storage.Bucket{Exists: true, Made: storage.S3}, storage.Ours, ""},
		{uploaded, storage.Bucket{}, storage.Make, ""},
		{uploaded, storage.Bucket{Exists: true, Made: storage.GCS}, "", `previously created for "gcs", but a new store type "s3" is requested`},
		{byURI, storage.Bucket{Exists: true}, storage.Theirs, ""},
		{byURI, storage.Bucket{}, "", "attempted to use a non-existent bucket as a source: s3://bkt"},
		{byURI, storage.Bucket{Denied: true}, "", "failed to access existing bucket"},
		{uploaded, storage.Bucket{Denied: true}, "", "failed to access existing bucket"},
	} {
		m := b.one(t, "file_mounts:\n  /m: "+tc.fields)
		use, err := m.Judge(tc.bucket)
		if use != tc.use || (err == nil) != (tc.want == "") {
			t.Errorf("%s, %+v: got %q, %v", tc.fields, tc.bucket, use, err)
		}
		if err == nil {
			continue
		}
		var p storage.Problem
		if !errors.As(err, &p) || !strings.Contains(p.Message, tc.want) || !strings.HasPrefix(p.Error(), "task.yaml:2:3: ") || p.Hint == "" {
			t.Errorf("%s, %+v: got %v", tc.fields, tc.bucket, err)
		}
	}
}
