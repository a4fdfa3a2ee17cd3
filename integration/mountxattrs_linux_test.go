package integration_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skyagent/skyagent/integration/posix"
	"github.com/skyagent/skyagent/integration/servers"
)

func TestMountPosixXattrs(t *testing.T) {
	r := newRig(t)
	dir, _ := r.mount(t, "--xattrs")
	p := promises()
	delete(p.Refuses, posix.Xattrs)
	posix.Suite(t, dir, p)
}

// xattr returns an attribute, "" when there is none.
func xattr(t *testing.T, path, name string) string {
	t.Helper()
	b := make([]byte, 4096)
	n, err := unix.Getxattr(path, name, b)
	if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOENT) {
		t.Fatal(err)
	}
	return string(b[:max(n, 0)])
}

// TestMountXattrs gives a file and a directory attributes on one mount, and wants
// another to show them, also after the file was written and moved there, and one
// that starts later. They stand in the object's metadata.
func TestMountXattrs(t *testing.T) {
	r := newRig(t)
	nats := servers.NATS(t, servers.NATSOptions{})
	a, _ := r.mount(t, "--nats", nats.URL, "--xattrs")
	b, _ := r.mount(t, "--nats", nats.URL, "--xattrs")
	r.waitMounts(t, 2, nats.URL)
	f := filepath.Join(a, "f")
	write(t, f, "content")
	must(t, os.Mkdir(filepath.Join(a, "dir"), 0o755))
	const value = "any \x00\xff bytes"
	must(t, unix.Setxattr(f, "user.a", []byte(value), unix.XATTR_CREATE))
	must(t, unix.Setxattr(f, "user.gone", []byte("x"), 0))
	must(t, unix.Setxattr(filepath.Join(a, "dir"), "user.d", []byte("of a directory"), 0))
	must(t, unix.Removexattr(f, "user.gone"))
	waitFor(t, "the attributes", func() bool {
		return xattr(t, filepath.Join(b, "f"), "user.a") == value && xattr(t, filepath.Join(b, "dir"), "user.d") == "of a directory"
	})
	if got := xattr(t, filepath.Join(b, "f"), "user.gone"); got != "" {
		t.Errorf("a removed attribute is %q", got)
	}
	write(t, filepath.Join(b, "f"), "other content")
	must(t, os.Rename(filepath.Join(b, "f"), filepath.Join(b, "g")))
	must(t, os.Chmod(filepath.Join(b, "g"), 0o600))
	r.home.MustRun(t, "mount", "flush", b)
	waitFor(t, "the attributes of a file that was written and moved", func() bool { return xattr(t, filepath.Join(a, "g"), "user.a") == value })
	info, err := r.store(t).Head(t.Context(), "g")
	if err != nil || info.Meta["xattrs"] == "" || info.Meta["mode"] != "0100600" {
		t.Errorf("the object says %v, %v", info.Meta, err)
	}
	late, _ := r.mount(t, "--nats", nats.URL, "--xattrs")
	for path, want := range map[string]string{"g": value, "dir": "of a directory"} {
		if got := xattr(t, filepath.Join(late, path), map[string]string{"g": "user.a", "dir": "user.d"}[path]); got != want {
			t.Errorf("a later mount has %q of %s, want %q", got, path, want)
		}
	}
	err = unix.Setxattr(filepath.Join(a, "g"), "user.large", []byte(strings.Repeat("x", 1100)), 0)
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("too much: %v, want ENOSPC", err)
	}
	for _, name := range []string{"trusted.x", "security.x"} {
		if err := unix.Setxattr(filepath.Join(a, "g"), name, []byte("x"), 0); !errors.Is(err, unix.EOPNOTSUPP) {
			t.Errorf("%s: %v, want EOPNOTSUPP", name, err)
		}
	}
}
