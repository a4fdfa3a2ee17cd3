package objstore_test

import (
	"strings"
	"testing"

	"github.com/skyagent/skyagent/objstore"
)

func TestParseLocation(t *testing.T) {
	for _, tc := range []struct{ in, canonical, name string }{
		{"s3://models", "s3://models", "models"},
		{"S3://models/", "s3://models", "models"},
		{"s3://models/team a/x/", "s3://models/team a/x", "models/team a/x"},
		{"s3://m?region=eu&endpoint=http://h:1", "s3://m?endpoint=http%3A%2F%2Fh%3A1&region=eu", "m"},
		{"file:///srv/b/../bucket/", "file:///srv/bucket", "/srv/bucket"},
		{"file:///srv/100%", "file:///srv/100%", "/srv/100%"},
		{"file:///", "file:///", "/"},
		{"gs://b/p", "gs://b/p", "b/p"},
	} {
		l, err := objstore.ParseLocation(tc.in)
		if err != nil || l.String() != tc.canonical || l.Name() != tc.name {
			t.Errorf("ParseLocation(%q) = %q, %q, %v", tc.in, l, l.Name(), err)
		}
		if again, err := objstore.ParseLocation(l.String()); err != nil || again.String() != l.String() {
			t.Errorf("%q is not canonical: %q, %v", l, again, err)
		}
	}
}

func TestParseLocationRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "no scheme",
		"/srv/bucket":          "no scheme",
		"models":               "no scheme",
		"s3://":                "no bucket",
		"s3:///prefix":         "no bucket",
		"s3://b/a//c":          "not clean",
		"s3://b/../c":          "not clean",
		"file://srv/bucket":    "relative",
		"file://":              "relative",
		"s3://b?region=%zz":    "invalid URL escape",
		"file://./here?xattr=": "relative",
	} {
		_, err := objstore.ParseLocation(in)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("ParseLocation(%q): %v, want %q", in, err, want)
		}
	}
}

func TestCheckParts(t *testing.T) {
	s3ish := objstore.Caps{RangeCopy: true, MinPart: 5, MaxPart: 10, MaxParts: 3}
	r2ish := s3ish
	r2ish.UniformParts = true
	gcsish := objstore.Caps{Append: true, MinPart: 1, MaxPart: 10, MaxParts: 32}
	part := func(size, base int64) objstore.Part { return objstore.Part{Size: size, Base: base} }
	for _, tc := range []struct {
		name  string
		caps  objstore.Caps
		parts []objstore.Part
		ok    bool
	}{
		{"none", s3ish, nil, true},
		{"short last", s3ish, []objstore.Part{part(5, 0), part(1, 0)}, true},
		{"short first", s3ish, []objstore.Part{part(4, 0), part(5, 0)}, false},
		{"long", s3ish, []objstore.Part{part(11, 0)}, false},
		{"empty", s3ish, []objstore.Part{part(0, 0)}, false},
		{"many", s3ish, []objstore.Part{part(5, 0), part(5, 0), part(5, 0), part(5, 0)}, false},
		{"beyond the base", s3ish, []objstore.Part{part(5, 16)}, false},
		{"uneven", r2ish, []objstore.Part{part(5, 0), part(6, 0), part(5, 0)}, false},
		{"even, short last", r2ish, []objstore.Part{part(6, 0), part(6, 0), part(5, 0)}, true},
		{"even, long last", r2ish, []objstore.Part{part(6, 0), part(7, 0)}, false},
		{"no copies", objstore.Caps{MaxPart: 10, MaxParts: 3}, []objstore.Part{part(5, 0)}, false},
		{"append", gcsish, []objstore.Part{part(20, 0), {Size: 3, Body: strings.NewReader("new")}}, true},
		{"append to a stretch", gcsish, []objstore.Part{part(19, 0), {Size: 3, Body: strings.NewReader("new")}}, false},
		{"append twice", gcsish, []objstore.Part{part(20, 0), part(20, 0)}, false},
	} {
		if err := tc.caps.CheckParts(tc.parts, 20); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
