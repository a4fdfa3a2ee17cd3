package manifest_test

import (
	"cmp"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/skyagent/skyagent/manifest"
)

// file returns a regular file with content.
func file(p manifest.Path, content string) manifest.File {
	return manifest.File{
		Path: p, Mode: 0o644, Size: int64(len(content)), MTime: 1_700_000_000_123_456_789,
		Hash: manifest.Sum([]byte(content)), Rev: "rev-" + content,
	}
}

func folder(p manifest.Path) manifest.File {
	return manifest.File{Path: p, Mode: fs.ModeDir | 0o755}
}

func of(files ...manifest.File) *manifest.Manifest {
	m := manifest.New()
	for _, f := range files {
		m.Put(f)
	}
	return m
}

// same reports whether a and b are equal in all that File.Same compares, and
// in what they count.
func same(a, b *manifest.Manifest) bool {
	if a.Len() != b.Len() || a.Count() != b.Count() || a.Bytes() != b.Bytes() {
		return false
	}
	for f := range a.All() {
		if g, ok := b.Get(f.Path); !ok || !f.Same(g) {
			return false
		}
	}
	return true
}

func describe(changes []manifest.Change) []string {
	var out []string
	for _, c := range changes {
		out = append(out, c.Op.String()+" "+string(c.Path))
	}
	return out
}

func TestDiff(t *testing.T) {
	touched := file("f", "one")
	touched.MTime++
	touched.Rev = "other"
	run := file("f", "one")
	run.Mode = 0o755
	for _, c := range []struct {
		name string
		a, b *manifest.Manifest
		want []string
	}{
		{"nothing", of(), of(), nil},
		{"same", of(file("f", "one"), folder("d")), of(file("f", "one"), folder("d")), nil},
		{"new", of(), of(file("f", "one"), folder("d")), []string{"put d", "put f"}},
		{"gone", of(file("f", "one"), folder("d")), of(), []string{"delete d", "delete f"}},
		{"content", of(file("f", "one")), of(file("f", "two")), []string{"put f"}},
		{"mode", of(file("f", "one")), of(run), []string{"put f"}},
		{"time and revision alone", of(file("f", "one")), of(touched), nil},
		{"file becomes directory", of(file("x", "one")), of(folder("x"), file("x/y", "")), []string{"put x", "put x/y"}},
		{"directory becomes file", of(folder("x"), file("x/y", "")), of(file("x", "one")), []string{"put x", "delete x/y"}},
		{"interleaved", of(file("a", "1"), file("c", "1"), file("e", "1")), of(file("b", "1"), file("c", "2"), file("d", "1")),
			[]string{"delete a", "put b", "put c", "put d", "delete e"}},
	} {
		changes := manifest.Diff(c.a, c.b)
		if got := describe(changes); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
		c.a.Apply(changes)
		if !same(c.a, c.b) {
			t.Errorf("%s: applied, a is not b", c.name)
		}
	}
}

func TestSquash(t *testing.T) {
	put := func(p manifest.Path, content string) manifest.Change {
		return manifest.Change{Op: manifest.Put, File: file(p, content)}
	}
	gone := func(p manifest.Path) manifest.Change {
		return manifest.Change{Op: manifest.Delete, File: manifest.File{Path: p}}
	}
	all := []manifest.Change{put("a", "1"), put("b", "1"), gone("a"), put("c", "1"), put("b", "2"), gone("c"), put("a", "3")}
	got := manifest.Squash(all)
	if want := []string{"put b", "delete c", "put a"}; !slices.Equal(describe(got), want) {
		t.Errorf("got %q, want %q", describe(got), want)
	}
	one, two := of(), of()
	one.Apply(all)
	two.Apply(got)
	if !same(one, two) {
		t.Error("squashed changes lead elsewhere")
	}
	if got := manifest.Squash(nil); len(got) != 0 {
		t.Errorf("Squash(nil) = %v", got)
	}
}

func TestManifestCounts(t *testing.T) {
	m := of(file("a", "12"), folder("d"), file("d/b", "345"))
	if m.Len() != 3 || m.Count() != 2 || m.Bytes() != 5 {
		t.Fatalf("got %d entries, %d files, %d bytes", m.Len(), m.Count(), m.Bytes())
	}
	m.Put(file("a", "1234"))
	m.Put(folder("d/b")) // a file becomes a directory
	m.Delete("missing")
	if m.Len() != 3 || m.Count() != 1 || m.Bytes() != 4 {
		t.Errorf("got %d entries, %d files, %d bytes", m.Len(), m.Count(), m.Bytes())
	}
	m.Delete("a")
	if m.Len() != 2 || m.Count() != 0 || m.Bytes() != 0 {
		t.Errorf("got %d entries, %d files, %d bytes", m.Len(), m.Count(), m.Bytes())
	}
}

func TestManifestBelow(t *testing.T) {
	m := of(folder("d"), file("d-", "1"), file("d/a", "1"), folder("d/e"), file("d/e/f", "1"), file("d0", "1"), file("c", "1"))
	for _, c := range []struct {
		dir  manifest.Path
		want []manifest.Path
	}{
		{"d", []manifest.Path{"d/a", "d/e", "d/e/f"}},
		{"d/e", []manifest.Path{"d/e/f"}},
		{"c", nil},
		{"", []manifest.Path{"c", "d", "d-", "d/a", "d/e", "d/e/f", "d0"}},
	} {
		var got []manifest.Path
		for f := range m.Below(c.dir) {
			got = append(got, f.Path)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("below %q: got %q, want %q", c.dir, got, c.want)
		}
	}
}

// What Find returns has the content that was asked for, whatever came and went.
func TestManifestFindNeverLies(t *testing.T) {
	m := manifest.New()
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		p := manifest.Path(fmt.Sprint("f", r.IntN(50)))
		switch content := fmt.Sprint(r.IntN(10)); {
		case r.IntN(3) == 0:
			m.Delete(p)
		case r.IntN(10) == 0:
			m.Put(folder(p))
		default:
			m.Put(file(p, content))
		}
		h := manifest.Sum([]byte(fmt.Sprint(r.IntN(10))))
		if f, ok := m.Find(h); ok && (f.Hash != h || f.IsDir()) {
			t.Fatalf("Find returned %+v", f)
		}
	}
}

func TestManifestClone(t *testing.T) {
	m := manifest.New()
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 2000 {
		m.Put(file(manifest.Path(fmt.Sprintf("f%05d", i)), "x"))
	}
	want := of()
	for f := range m.All() {
		want.Put(f)
	}
	clone := m.Clone()
	for range 5000 {
		p := manifest.Path(fmt.Sprintf("f%05d", r.IntN(3000)))
		if r.IntN(2) == 0 {
			m.Delete(p)
		} else {
			m.Put(file(p, "changed"))
		}
	}
	if !same(clone, want) {
		t.Error("the clone changed with its original")
	}
	clone.Put(file("own", "1"))
	if _, ok := m.Get("own"); ok {
		t.Error("the original changed with its clone")
	}
}

// fromBytes makes a manifest of up to a hundred entries from fuzzed bytes.
func fromBytes(b []byte) *manifest.Manifest {
	m := manifest.New()
	for len(b) >= 3 && m.Len() < 100 {
		p := manifest.Path(fmt.Sprintf("%c", 'a'+b[0]%4))
		if b[0]&16 != 0 {
			p = p.Join(fmt.Sprintf("%c", 'a'+b[0]>>5))
		}
		f := file(p, string(b[1:2]))
		f.Mode = fs.FileMode(b[2]) & fs.ModePerm
		if b[2]&1 != 0 {
			f = manifest.File{Path: p, Mode: fs.ModeDir | f.Mode}
		}
		m.Put(f)
		b = b[3:]
	}
	return m
}

func FuzzDiffApply(f *testing.F) {
	f.Add([]byte{}, []byte{})
	f.Add([]byte("a1xb2yc3z"), []byte("a1xb9y"))
	f.Add([]byte{16, 1, 0, 0, 2, 0}, []byte{16, 0, 1, 48, 7, 2})
	f.Fuzz(func(t *testing.T, left, right []byte) {
		a, b := fromBytes(left), fromBytes(right)
		changes := manifest.Diff(a, b)
		if !slices.IsSortedFunc(changes, func(x, y manifest.Change) int { return cmp.Compare(x.Path, y.Path) }) {
			t.Error("changes are not in the order of the paths")
		}
		a.Apply(changes)
		if !same(a, b) {
			t.Error("apply(a, diff(a, b)) is not b")
		}
		if again := manifest.Diff(a, b); len(again) != 0 {
			t.Errorf("still different: %q", describe(again))
		}
	})
}
