package storage_test

import (
	"strings"
	"testing"

	"github.com/skyagent/skyagent/storage"
)

// SkyPilot's own verdicts, as they were found by running its validators. They
// differ in one name, which ends with a newline: SkyPilot lets it through.
func TestNames(t *testing.T) {
	for _, tc := range []struct {
		name    string
		s3, gcs bool
	}{
		{"ab", false, false},
		{"abc", true, true},
		{strings.Repeat("abc", 26) + "a", false, false},
		{strings.Repeat("a", 63), true, true},
		{strings.Repeat("a", 64), false, false},
		{strings.Repeat("a", 222), false, false},
		{strings.Repeat("a", 223), false, false},
		{"Abcdef", false, false},
		{"abc def", false, false},
		{"abc..def", false, false},
		{"abc.def", true, true},
		{"192.168.5.4", false, false},
		{"1.2.3", true, true},
		{"999.999.999.999", false, false},
		{"xn--bucket", false, true},
		{"bucket-s3alias", false, true},
		{"bucket--ol-s3", false, true},
		{"bucket--x-s3", true, true},
		{"sthree-bucket", true, true},
		{"sthree-configurator", true, true},
		{"amzn-s3-demo-x", true, true},
		{".abc", false, false},
		{"abc.", false, false},
		{"-abc", false, false},
		{"abc-", false, false},
		{"_abc", false, false},
		{"abc_", false, false},
		{"a_b", false, true},
		{"a--bc", true, true},
		{"a.-bc", true, false},
		{"a-.bc", true, false},
		{"a&bc", false, false},
		{"ab^c", false, false},
		{"a&bcab^c", false, false},
		{"googbucket", true, false},
		{"googlebucket", true, false},
		{"g00glebucket", true, false},
		{"go0glebucket", true, false},
		{"g0oglebucket", true, false},
		{"mygoogbucket", true, true},
		{"mygooglebucket", true, false},
		{strings.Repeat("a", 63) + "." + strings.Repeat("b", 63), false, true},
		{strings.Repeat("a", 64) + ".b", false, false},
		{"abc_.def.ghi.jklm", false, true},
		{"my-bucket", true, true},
		{"0bucket", true, true},
		{"bucket0", true, true},
		{"a.b", true, true},
		{"bücket", false, false},
		{"a\n", false, false},
		{"abc\n", false, false}, // SkyPilot: ok
		{"123", true, true},
		{"", false, false},
	} {
		for store, want := range map[storage.Store]bool{storage.S3: tc.s3, storage.R2: tc.s3, storage.GCS: tc.gcs} {
			err := storage.CheckName(store, tc.name)
			if (err == nil) != want {
				t.Errorf("%s: %q: %v", store, tc.name, err)
			}
			if err != nil && (!strings.HasPrefix(err.Error(), "invalid store name: name ") || strings.Contains(err.Error(), "\n")) {
				t.Errorf("%s: %q: %v", store, tc.name, err)
			}
		}
	}
}

// What a store refuses to make, though SkyPilot lets it through.
func TestNewNames(t *testing.T) {
	for store, names := range map[storage.Store][]string{
		storage.S3: {"sthree-bucket", "amzn-s3-demo-x", "bucket--x-s3", "bucket--table-s3", "bucket.mrap"},
		storage.R2: {"abc.def"},
	} {
		for _, name := range names {
			if err := storage.CheckName(store, name); err != nil {
				t.Errorf("%s: %q may be there: %v", store, name, err)
			}
			if storage.CheckNewName(store, name) == nil {
				t.Errorf("%s: %q cannot be made", store, name)
			}
		}
	}
	for name, want := range map[string]bool{
		"My Data_1": true, "a.b": true, "": false, ".": false, "..": false, "a/b": false, `a\b`: false, "a\n": false, strings.Repeat("a", 256): false,
	} {
		if err := storage.CheckNewName(storage.File, name); (err == nil) != want {
			t.Errorf("file: %q: %v", name, err)
		}
	}
}
