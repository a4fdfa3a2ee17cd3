package manifest_test

import (
	"reflect"
	"testing"

	"github.com/skyagent/skyagent/manifest"
)

func FuzzXattrs(f *testing.F) {
	f.Add("user.a", []byte("value"), "AAAA")
	f.Add("user.\xff", []byte{0, 255}, "////")
	f.Add("", []byte{}, "not base64")
	f.Fuzz(func(t *testing.T, name string, value []byte, damaged string) {
		want := map[string][]byte{name: value, "user.other": {}}
		if got := manifest.EncodeXattrs(want).Decode(); len(got) != len(want) || string(got[name]) != string(want[name]) {
			t.Errorf("got %q, want %q", got, want)
		}
		attrs := manifest.Xattrs(damaged).Decode()
		if again := manifest.EncodeXattrs(attrs).Decode(); !reflect.DeepEqual(again, attrs) {
			t.Errorf("%q then %q", attrs, again)
		}
	})
}

// Extended attributes stay in notes and in metadata.
func TestXattrsAreKept(t *testing.T) {
	f := file("f", "x")
	f.Xattrs = manifest.EncodeXattrs(map[string][]byte{"user.a": {0, 1, 255}})
	notes, err := manifest.DecodeNote(manifest.EncodeNote([]manifest.Writes{{Changes: []manifest.Write{{Change: manifest.Change{Op: manifest.Put, File: f}}}}}))
	if err != nil || notes[0].Changes[0].Xattrs != f.Xattrs {
		t.Errorf("a note has %v, %v", notes, err)
	}
	var got manifest.File
	if got.TakeMeta(f.Meta("w", "")); got.Xattrs != f.Xattrs {
		t.Errorf("metadata say %q", got.Xattrs)
	}
}
