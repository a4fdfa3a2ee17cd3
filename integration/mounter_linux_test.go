package integration_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/skyagent/skyagent/integration/servers"
)

// rclone mounts the rig's bucket by rclone, and waits until it is there.
func (r *rig) rclone(t *testing.T, args ...string) string {
	t.Helper()
	r.home.Env = append(r.home.Env, "PATH="+filepath.Dir(servers.Rclone(t))+":"+os.Getenv("PATH"))
	dir, _ := r.mount(t, append([]string{"--mounter", "rclone"}, args...)...)
	return dir
}

// shown reports whether a path below a mount holds content; "" is no file. What
// rclone believes to have another size than it has cannot be read: that is no.
func shown(path, content string) bool {
	b, err := os.ReadFile(path)
	return err == nil && content != "" && string(b) == content || os.IsNotExist(err) && content == ""
}

func waitShown(t *testing.T, path, content string) {
	t.Helper()
	waitFor(t, path+" with "+content, func() bool { return shown(path, content) })
}

// wantOld fails a test that would show nothing: a path has its new content
// before anybody told the mount.
func wantOld(t *testing.T, path, content string) {
	t.Helper()
	if shown(path, content) {
		t.Fatalf("%s holds %q without a refresh", path, content)
	}
}

// TestRcloneRefreshed wants what a watch saves to be seen through a mount of
// rclone that had the old version, and its absence, in its cache for an hour.
func TestRcloneRefreshed(t *testing.T) {
	r := newRig(t)
	nats := servers.NATS(t, servers.NATSOptions{})
	write(t, filepath.Join(r.source, "dir/file"), "one")
	w := r.watch(t, "--nats", nats.URL)
	dir := r.rclone(t, "--nats", nats.URL)
	wantFile(t, filepath.Join(dir, "dir/file"), "one")
	wantFile(t, filepath.Join(dir, "dir/new"), "")

	write(t, filepath.Join(r.source, "dir/file"), "two, and longer")
	waitShown(t, filepath.Join(dir, "dir/file"), "two, and longer")
	write(t, filepath.Join(r.source, "dir/new"), "new")
	waitShown(t, filepath.Join(dir, "dir/new"), "new")
	must(t, os.Remove(filepath.Join(r.source, "dir/file")))
	waitShown(t, filepath.Join(dir, "dir/file"), "")

	// A mount of skyagent's is heard, too.
	own, _ := r.mount(t, "--nats", nats.URL)
	write(t, filepath.Join(own, "dir/new"), "by a mount")
	waitShown(t, filepath.Join(dir, "dir/new"), "by a mount")
	stop(t, w)
}

// TestRcloneRefreshedByHand wants refresh to reach another program's mount: what
// a stranger wrote is seen when it returns.
func TestRcloneRefreshedByHand(t *testing.T) {
	r := newRig(t)
	nats := servers.NATS(t, servers.NATSOptions{})
	store := r.store(t)
	stranger(t, store, "dir/file", "one")
	dir := r.rclone(t, "--nats", nats.URL)
	wantFile(t, filepath.Join(dir, "dir/file"), "one")
	stranger(t, store, "dir/file", "two, and longer")
	wantOld(t, filepath.Join(dir, "dir/file"), "two, and longer")
	r.home.MustRun(t, "refresh", filepath.Join(dir, "dir/file"))
	wantFile(t, filepath.Join(dir, "dir/file"), "two, and longer")
	wantWords(t, r.home.Run(t, "refresh", dir), 1, "", "name a path below the mount point")
}

// TestRcloneCatchesUp wants what was committed while the bus was away to be
// refreshed when it is back.
func TestRcloneCatchesUp(t *testing.T) {
	r := newRig(t)
	write(t, filepath.Join(r.source, "file"), "one")
	stop(t, r.watch(t)) // and with it the bus
	dir := r.rclone(t)
	wantFile(t, filepath.Join(dir, "file"), "one")
	write(t, filepath.Join(r.source, "file"), "two, and longer")
	r.home.MustRun(t, "sync", r.source, "--to", r.url)
	wantOld(t, filepath.Join(dir, "file"), "two, and longer")
	w := r.watch(t)
	waitShown(t, filepath.Join(dir, "file"), "two, and longer")
	stop(t, w)
}
