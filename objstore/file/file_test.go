package file_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/file"
)

const hidden = ".skyagent-store"

func put(t testing.TB, s objstore.Store, key, body string) objstore.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, strings.NewReader(body), int64(len(body)), objstore.PutOptions{})
	if err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
	return info
}

func get(t testing.TB, s objstore.Store, key string) string {
	t.Helper()
	r, _, err := s.Get(t.Context(), key, 0, -1, objstore.Cond{})
	if err != nil {
		t.Fatalf("Get(%q): %v", key, err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func keys(t testing.TB, s objstore.Store, prefix, after string) []string {
	t.Helper()
	var keys []string
	for info, err := range s.List(t.Context(), prefix, after) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

// Keys that cannot be names of files are objects like others.
func TestOddKeys(t *testing.T) {
	for _, order := range []string{"forward", "backward"} {
		t.Run(order, func(t *testing.T) {
			dir := t.TempDir() + "/bucket"
			s := open(t, file.Config{Path: dir})
			all := []string{"a", "a/b", "a/b/c", "a/", "a//b", "/", "//", "/abs", "..", "../up", "a/../../up", ".", "./x", "x/.",
				"nul\x00", hidden, hidden + "/lock", hidden + "/tmp/x", strings.Repeat("n", 256), strings.Repeat("n", 1024),
				strings.Repeat("m", 125), strings.Repeat("m", 125) + "/", strings.Repeat("m", 250) + "//x", "plain", "a.", "a0"}
			if order == "backward" {
				slices.Reverse(all)
			}
			for _, key := range all {
				put(t, s, key, "body of "+key)
			}
			want := slices.Sorted(slices.Values(all))
			if got := keys(t, s, "", ""); !slices.Equal(got, want) {
				t.Fatalf("List yields %q\nwant %q", got, want)
			}
			for i, key := range want {
				if got := get(t, s, key); got != "body of "+key {
					t.Errorf("%q holds %q", key, got)
				}
				if got := keys(t, s, "", key); !slices.Equal(got, want[i+1:]) {
					t.Errorf("List after %q yields %q", key, got)
				}
				inPrefix := slices.DeleteFunc(slices.Clone(want), func(k string) bool { return !strings.HasPrefix(k, key) })
				if got := keys(t, s, key, ""); !slices.Equal(got, inPrefix) {
					t.Errorf("List(%q) yields %q, want %q", key, got, inPrefix)
				}
			}
			if err := s.Delete(t.Context(), all...); err != nil {
				t.Fatal(err)
			}
			if got := keys(t, s, "", ""); len(got) != 0 {
				t.Errorf("left: %q", got)
			}
			if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 1 {
				t.Errorf("written outside the bucket: %v", entries)
			}
			if err := s.DeleteBucket(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestKeyThatIsNone(t *testing.T) {
	s := open(t, file.Config{})
	for _, key := range []string{"", strings.Repeat("n", 1025)} {
		if _, err := s.Put(t.Context(), key, strings.NewReader(""), 0, objstore.PutOptions{}); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("key of %d bytes: %v", len(key), err)
		}
	}
}

// A symlink in the bucket leads no write or read out of it, and is no object.
func TestSymlinks(t *testing.T) {
	dir, outside := t.TempDir()+"/bucket", t.TempDir()
	s := open(t, file.Config{Path: dir})
	for _, err := range []error{os.Symlink(outside, dir+"/out"), os.Symlink(outside+"/f", dir+"/link"), os.WriteFile(outside+"/f", []byte("theirs"), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Put(t.Context(), "out/f", strings.NewReader("x"), 1, objstore.PutOptions{}); err == nil {
		t.Error("Put went through a symlink")
	}
	if _, err := s.Head(t.Context(), "out/f"); err == nil {
		t.Error("Head went through a symlink")
	}
	put(t, s, "link", "ours") // beside it, as an odd key
	if b, _ := os.ReadFile(outside + "/f"); string(b) != "theirs" {
		t.Errorf("the file outside is %q", b)
	}
	if got := keys(t, s, "", ""); !slices.Equal(got, []string{"link"}) || get(t, s, "link") != "ours" {
		t.Errorf("List yields %q", got)
	}
}

// What cp puts into the directory is an object, and what we put cp can read.
func TestForeignFiles(t *testing.T) {
	dir := t.TempDir() + "/bucket"
	s := open(t, file.Config{Path: dir})
	if err := os.WriteFile(dir+"/theirs", []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := s.Head(t.Context(), "theirs")
	if err != nil || first.Rev == "" || get(t, s, "theirs") != "1" {
		t.Fatal(first, err)
	}
	opts := objstore.PutOptions{Cond: objstore.Cond{If: first.Rev}, Meta: map[string]string{"blake3": "abc"}}
	if _, err := s.Put(t.Context(), "theirs", strings.NewReader("2"), 1, opts); err != nil {
		t.Fatalf("at the revision of a foreign file: %v", err)
	}
	ours, err := s.Head(t.Context(), "theirs")
	if err != nil || ours.Meta["blake3"] != "abc" {
		t.Fatal(ours, err)
	}
	if b, err := os.ReadFile(dir + "/theirs"); string(b) != "2" {
		t.Errorf("on disk: %q, %v", b, err)
	}
	if err := os.WriteFile(dir+"/theirs", []byte("3"), 0o600); err != nil { // in place
		t.Fatal(err)
	}
	if err := os.Chtimes(dir+"/theirs", time.Time{}, ours.ModTime.Add(time.Nanosecond)); err != nil {
		t.Fatal(err)
	}
	edited, err := s.Head(t.Context(), "theirs")
	if err != nil || edited.Rev == ours.Rev || len(edited.Meta) != 0 {
		t.Errorf("edited in place, it is still %+v, %v", edited, err)
	}
}

// The same bytes written again within one tick of the clock are another revision.
func TestRevisionsDiffer(t *testing.T) {
	for _, noXattr := range []bool{false, true} {
		s, seen := open(t, file.Config{NoXattr: noXattr}), map[objstore.Rev]bool{}
		for range 100 {
			seen[put(t, s, "k", "same").Rev] = true
		}
		if len(seen) != 100 {
			t.Errorf("NoXattr %v: 100 writes made %d revisions", noXattr, len(seen))
		}
	}
}

func TestSidecarsGoWithTheirObjects(t *testing.T) {
	dir := t.TempDir() + "/bucket"
	s := open(t, file.Config{Path: dir, NoXattr: true})
	for i := range 5 {
		put(t, s, "k", strconv.Itoa(i))
	}
	if n := entries(t, dir+"/"+hidden+"/meta"); n != 1 {
		t.Errorf("%d sidecars for one object", n)
	}
	absent := objstore.PutOptions{Cond: objstore.Cond{Absent: true}}
	if _, err := s.Put(t.Context(), "k", strings.NewReader("x"), 1, absent); !errors.Is(err, objstore.ErrPrecondition) {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	if n := entries(t, dir+"/"+hidden+"/meta"); n != 0 {
		t.Errorf("%d sidecars for no object", n)
	}
}

func entries(t *testing.T, dir string) int {
	t.Helper()
	e, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

// No write leaves a temporary file, whether it succeeds or not.
func TestTemporariesGo(t *testing.T) {
	dir := t.TempDir() + "/bucket"
	s := open(t, file.Config{Path: dir})
	put(t, s, "k", "v")
	s.Put(t.Context(), "k", strings.NewReader("short"), 100, objstore.PutOptions{})
	s.Put(t.Context(), "k", strings.NewReader("x"), 1, objstore.PutOptions{Cond: objstore.Cond{Absent: true}})
	if _, err := s.Assemble(t.Context(), "k", "", []objstore.Part{{Size: 1, Body: strings.NewReader("x")}},
		func() error { return errors.New("torn") }, objstore.PutOptions{}); err == nil {
		t.Fatal("check was not asked")
	}
	found, err := filepath.Glob(dir + "/" + hidden + "/tmp/*/*")
	if err != nil || len(found) != 0 {
		t.Errorf("left: %v, %v", found, err)
	}
}

// First the bytes are durable, then the name appears, then the name is durable,
// with those of all directories made for it.
func TestDurableInOrder(t *testing.T) {
	dir := t.TempDir() + "/bucket"
	s := open(t, file.Config{Path: dir})
	put(t, s, "warm", "up")
	var groups [][]string
	var visible []bool
	stop := file.WatchSync(func(names []string) {
		groups = append(groups, names)
		_, err := os.Stat(dir + "/new/deep/key")
		visible = append(visible, err == nil)
	})
	defer stop()
	put(t, s, "new/deep/key", "body")
	if len(groups) != 2 || visible[0] || !visible[1] {
		t.Fatalf("synced %q, the name was visible: %v", groups, visible)
	}
	if len(groups[0]) != 1 || !strings.Contains(groups[0][0], "/tmp/") {
		t.Errorf("first the temporary file, got %q", groups[0])
	}
	for i := range groups[1] {
		groups[1][i] = filepath.Clean(groups[1][i])
	}
	if want := []string{dir + "/new/deep", dir + "/new", dir}; !slices.Equal(groups[1], want) {
		t.Errorf("then the directories %q, got %q", want, groups[1])
	}
	groups = nil
	if err := s.Delete(t.Context(), "new/deep/key"); err != nil || len(groups) != 1 {
		t.Errorf("Delete: %v, synced %q", err, groups)
	}
}

// Writers that come together wait together.
func TestWritersShareSyncs(t *testing.T) {
	s := open(t, file.Config{})
	put(t, s, "warm", "up")
	var groups atomic.Int64
	stop := file.WatchSync(func([]string) { groups.Add(1) })
	defer stop()
	const writers = 64
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() { put(t, s, fmt.Sprintf("d%d/k", i), "v") })
	}
	wg.Wait()
	if n := groups.Load(); n > writers {
		t.Errorf("%d puts were synced in %d groups", writers, n)
	} else {
		t.Logf("%d puts, %d groups", writers, n)
	}
}

func TestReadOnlyBucket(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/k", []byte("v"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := file.New(file.Config{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	if get(t, s, "k") != "v" || len(keys(t, s, "", "")) != 1 {
		t.Error("a directory of files is no bucket")
	}
	if n := entries(t, dir); n != 1 {
		t.Errorf("reading left %d entries", n)
	}
}
