package integration_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skyagent/skyagent/integration/posix"
	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
)

func TestMountPosixSymlinks(t *testing.T) {
	r := newRig(t)
	dir, _ := r.mount(t, "--symlinks")
	p := promises()
	delete(p.Refuses, posix.Symlinks)
	posix.Suite(t, dir, p)
}

func link(t *testing.T, path string) string {
	t.Helper()
	target, err := os.Readlink(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EINVAL) {
		t.Fatal(err)
	}
	return target
}

// TestMountSymlinks makes, replaces, moves and removes symlinks on one mount and
// wants another to show them, also one that starts later, and one without
// --symlinks to show files that hold their targets. A replica leaves them out.
func TestMountSymlinks(t *testing.T) {
	r := newRig(t)
	nats := servers.NATS(t, servers.NATSOptions{})
	a, _ := r.mount(t, "--nats", nats.URL, "--symlinks")
	b, _ := r.mount(t, "--nats", nats.URL, "--symlinks")
	plain, _ := r.mount(t, "--nats", nats.URL)
	r.waitMounts(t, 3, nats.URL)
	write(t, filepath.Join(a, "dir/file"), "content")
	write(t, filepath.Join(a, "turns"), "into a link")
	replica := r.copy(t, "--nats", nats.URL, "--poll", "1s")
	defer stop(t, replica)
	waitFor(t, "files in the replica", func() bool {
		return contains(r.replica, "dir/file", "content") && contains(r.replica, "turns", "into a link")
	})
	must(t, os.Symlink("dir/file", filepath.Join(a, "link")))
	must(t, os.Symlink("../..//odd \xff target", filepath.Join(a, "dir/odd")))
	waitFor(t, "the links", func() bool {
		return link(t, filepath.Join(b, "link")) == "dir/file" && link(t, filepath.Join(b, "dir/odd")) == "../..//odd \xff target"
	})
	wantFile(t, filepath.Join(b, "link"), "content")
	waitFor(t, "a file that holds the target", func() bool { return contains(plain, "link", "dir/file") })
	if info, err := r.store(t).Head(t.Context(), "link"); err != nil || info.Meta["mode"] != "0120777" || info.Size != 8 {
		t.Errorf("the object says %+v, %v", info, err)
	}

	must(t, os.Symlink("into a link", filepath.Join(a, "new"))) // of the same content as the file
	must(t, os.Rename(filepath.Join(a, "new"), filepath.Join(a, "turns")))
	waitFor(t, "a file that turned into a link", func() bool { return link(t, filepath.Join(b, "turns")) == "into a link" })
	must(t, os.Rename(filepath.Join(b, "link"), filepath.Join(b, "moved")))
	waitFor(t, "the moved link", func() bool {
		return link(t, filepath.Join(a, "moved")) == "dir/file" && link(t, filepath.Join(a, "link")) == ""
	})
	must(t, os.Remove(filepath.Join(plain, "dir/odd")))
	waitFor(t, "the link to go", func() bool { _, err := os.Lstat(filepath.Join(a, "dir/odd")); return errors.Is(err, os.ErrNotExist) })
	must(t, os.Chmod(filepath.Join(plain, "moved"), 0o600)) // stays a link
	r.home.MustRun(t, "mount", "flush", plain)
	late, _ := r.mount(t, "--nats", nats.URL, "--symlinks")
	if got := link(t, filepath.Join(late, "moved")); got != "dir/file" {
		t.Errorf("a later mount shows %q", got)
	}
	wantFile(t, filepath.Join(late, "moved"), "content")

	write(t, filepath.Join(a, "last"), "last")
	waitFor(t, "the last file in the replica", func() bool { return contains(r.replica, "last", "last") })
	waitFor(t, "the file that is none any more to go", func() bool {
		_, err := os.Lstat(filepath.Join(r.replica, "turns"))
		return errors.Is(err, os.ErrNotExist)
	})
	for _, name := range []string{"link", "moved", "dir/odd", "new"} {
		if _, err := os.Lstat(filepath.Join(r.replica, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the replica has %s: %v", name, err)
		}
	}
}

// TestMountForeignSymlink reads a symlink as s3fs stores it.
func TestMountForeignSymlink(t *testing.T) {
	r := newRig(t)
	_, err := r.store(t).Put(t.Context(), "link", strings.NewReader("target"), 6, objstore.PutOptions{Meta: map[string]string{"mode": "0120777"}})
	must(t, err)
	dir, _ := r.mount(t, "--symlinks")
	r.home.MustRun(t, "refresh", filepath.Join(dir, "link")) // a listing does not say what it is
	if got := link(t, filepath.Join(dir, "link")); got != "target" {
		t.Errorf("shown is a link to %q", got)
	}
}

// TestMountSymlinkKilled kills a mount that has just made a symlink: the next
// life has it.
func TestMountSymlinkKilled(t *testing.T) {
	r := newRig(t)
	proxy := servers.NewProxy(t, r.server.Endpoint)
	r.home.Env = append(r.home.Env, "AWS_ENDPOINT_URL_S3="+proxy.URL)
	dir := t.TempDir()
	p := r.live(t, []string{"mount", r.url, dir, "--symlinks"})
	proxy.Decide(refusePuts)
	must(t, os.Symlink("target", filepath.Join(dir, "link")))
	p.Kill()
	proxy.Decide(nil)
	again := r.live(t, []string{"mount", r.url, dir, "--symlinks"})
	defer stop(t, again)
	if got := link(t, filepath.Join(dir, "link")); got != "target" {
		t.Errorf("the next life has %q", got)
	}
	r.home.MustRun(t, "mount", "flush", dir)
	wantFile(t, r.object("link"), "target")
}

// TestMountSymlinkPrograms has tar, rsync and git bring trees with symlinks to
// one mount and take them from another.
func TestMountSymlinkPrograms(t *testing.T) {
	r := newRig(t)
	dirs := r.mounts(t, 2, "--symlinks")
	tree := filepath.Join(t.TempDir(), "tree")
	write(t, filepath.Join(tree, "dir/file"), "content")
	for name, target := range map[string]string{"link": "dir/file", "dir/up": "../dir", "dangling": "none", "absolute": "/etc/hostname", "dir/long": strings.Repeat("x/", 1000)} {
		must(t, os.Symlink(target, filepath.Join(tree, name)))
	}
	run := func(dir string, args ...string) string {
		t.Helper()
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
			"GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@example.com")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	same := func(what, dir string) {
		t.Helper()
		if out := run("/", "rsync", "-an", "--checksum", "--delete", "--itemize-changes", "--omit-dir-times", tree+"/", dir+"/"); out != "" {
			t.Errorf("%s: %s differs:\n%s", what, dir, out)
		}
	}
	there := func(name string) { // all of it is on the other mount
		t.Helper()
		r.home.MustRun(t, "mount", "flush", dirs[0])
		waitFor(t, name, func() bool { _, err := os.Readlink(filepath.Join(dirs[1], name, "dir/up")); return err == nil })
	}
	run("/", "rsync", "-a", tree+"/", filepath.Join(dirs[0], "rsync")+"/")
	there("rsync")
	same("rsync", filepath.Join(dirs[0], "rsync"))
	same("rsync", filepath.Join(dirs[1], "rsync"))
	must(t, os.Mkdir(filepath.Join(dirs[0], "tar"), 0o755))
	run("/", "tar", "-C", tree, "-cf", filepath.Join(dirs[0], "tree.tar"), ".")
	run(filepath.Join(dirs[0], "tar"), "tar", "-xf", "../tree.tar")
	there("tar")
	same("tar", filepath.Join(dirs[1], "tar"))
	run(filepath.Join(dirs[1], "tar"), "tar", "--compare", "-f", "../tree.tar")
	git := filepath.Join(dirs[0], "git")
	run("/", "cp", "-a", tree, git)
	run(git, "git", "init", "-q", "-b", "main")
	run(git, "git", "add", "-A")
	run(git, "git", "commit", "-q", "-m", "first")
	run(dirs[0], "git", "clone", "-q", "git", "clone")
	if out := run(filepath.Join(dirs[0], "clone"), "git", "status", "--porcelain"); out != "" {
		t.Errorf("git sees %s", out)
	}
	there("clone")
	if out := run(filepath.Join(dirs[1], "clone"), "git", "status", "--porcelain"); out != "" {
		t.Errorf("git sees %s on the other mount", out)
	}
	run(dirs[1], "cp", "-a", "rsync", "copied")
	same("cp", filepath.Join(dirs[1], "copied"))
	run(dirs[1], "rm", "-r", "copied", "rsync", "tar", "clone", "git", "tree.tar")
}
