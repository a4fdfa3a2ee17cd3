package blocks_test

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skyagent/skyagent/mount/blocks"
)

// A disk that is smaller than the cache may be is used as far as it goes.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=6m"); err != nil {
		t.Skipf("mount a small disk: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	var log lines
	s, b := newStore(), content(1, 24<<20)
	o := proven(t, put(t, s, "a", b), b)
	objects, contents := some(t, s, 1000)
	c := open(t, blocks.Options{Store: s, Dir: dir, Log: log.logger(), Memory: 16 << 20})
	wantAll(t, reader(t, c, o), b, grain)
	for i := range objects {
		wantAll(t, reader(t, c, objects[i]), contents[i], 1<<20)
	}
	for i := range 20 {
		b := content(uint64(i), 2<<20)
		wantAll(t, reader(t, c, put(t, s, fmt.Sprint(i), b)), b, 1<<20)
	}
	if got := log.count("cannot write"); got > 1 {
		t.Errorf("the log says it %d times", got)
	}
}
