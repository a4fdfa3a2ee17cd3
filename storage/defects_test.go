package storage_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/storage"
)

// A listed link uploads nothing with SkyPilot, in silence; here with a warning.
func TestD08ListedLink(t *testing.T) {
	b := newBench(t)
	for _, link := range []string{"~/flink", "~/dlink"} {
		task, problems := b.parse(t, "file_mounts:\n  /m:\n    name: bkt\n    source:\n    - ~/file\n    - "+link+"\n")
		if problems != nil || len(task.Mounts[0].Sources) != 1 || task.Mounts[0].Sources[0].At != "file" {
			t.Fatalf("%s: got %+v, %v", link, task, problems)
		}
		if w := task.Warnings; len(w) != 1 || w[0].Line != 6 || !strings.Contains(w[0].Message, link+" is a symbolic link") {
			t.Errorf("%s: got %v", link, w)
		}
		b.refused(t, "file_mounts: {/m: {name: bkt, source: ["+link+"]}}", "nothing of the source list can be uploaded")
	}
}

// A source that is a link to a directory uploads nothing to S3 with SkyPilot.
func TestD09LinkAsSource(t *testing.T) {
	b := newBench(t)
	m := b.one(t, "file_mounts: {/m: {name: bkt, source: ~/dlink}}")
	if want := filepath.Join(b.home, "dir"); len(m.Sources) != 1 || m.Sources[0] != (storage.Source{Path: want, Dir: true}) {
		t.Errorf("got %+v", m.Sources)
	}
}

// A directory with a space in its name breaks SkyPilot's command.
func TestD18SpaceInListedDirectory(t *testing.T) {
	b := newBench(t)
	m := b.one(t, "file_mounts: {/m: {name: bkt, source: [~/my dir]}}")
	if len(m.Sources) != 1 || m.Sources[0].At != "my dir" || m.Sources[0].Path != filepath.Join(b.home, "my dir") {
		t.Errorf("got %+v", m.Sources)
	}
}

// Many transfers make SkyPilot write a float where rclone wants an integer.
func TestD20Transfers(t *testing.T) {
	b := newBench(t)
	const yaml = "file_mounts: {/m: {name: bkt, mode: MOUNT_CACHED, config: {mount_cached: {transfers: %}}}}"
	for _, n := range []string{"38", "78"} {
		if m := b.one(t, strings.Replace(yaml, "%", n, 1)); m.Transfers < 38 {
			t.Errorf("got %+v", m)
		}
	}
	b.refused(t, strings.Replace(yaml, "%", "78.0", 1), "not an integer")
}

// Without a sub path SkyPilot mounts IBM's bucket/None.
func TestD22NoSubPath(t *testing.T) {
	b := newBench(t)
	for _, sub := range []string{"", ", _bucket_sub_path: ", ", _bucket_sub_path: ''", ", _bucket_sub_path: /"} {
		if m := b.one(t, "file_mounts: {/m: {source: s3://xyz"+sub+"}}"); m.Location.String() != "s3://xyz" {
			t.Errorf("%s: got %s", sub, m.Location)
		}
	}
}

// SkyPilot's MOUNT_CACHED shows the whole bucket, whatever the sub path.
func TestD23CachedSubPath(t *testing.T) {
	b := newBench(t)
	for _, store := range []string{"s3", "gcs", "r2"} {
		if m := b.one(t, "file_mounts: {/m: {name: bkt, store: "+store+", mode: MOUNT_CACHED, _bucket_sub_path: a/b}}"); m.Location.Prefix != "a/b" {
			t.Errorf("got %s", m.Location)
		}
	}
}

// On ARM SkyPilot takes bucket:sub for a path.
func TestD24SubPath(t *testing.T) {
	b := newBench(t)
	if m := b.one(t, "file_mounts: {/m: {source: s3://xyz, _bucket_sub_path: sub}}"); m.Location.String() != "s3://xyz/sub" {
		t.Errorf("got %s", m.Location)
	}
}
