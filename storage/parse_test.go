package storage_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/storage"
)

// A bench is a home directory with what tests name: dir and other/dir,
// directories; file, a file; dlink and flink, links to them; broken.
type bench struct {
	home string
	opts storage.Options
}

func newBench(t *testing.T) bench {
	t.Helper()
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"dir", "other/dir", "datasets", "mydir", "my dir"} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"file", "mydir/myfile.txt", "dir/x"} {
		if err := os.WriteFile(filepath.Join(home, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"dlink": "dir", "flink": "file", "broken": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(home, link)); err != nil {
			t.Fatal(err)
		}
	}
	return bench{home, storage.Options{
		Env:     func(string) (string, bool) { return "", false },
		Home:    home,
		Dir:     home,
		Buckets: "/buckets",
		Files:   storage.Disk{},
		Known:   func(string) bool { return false },
	}}
}

func (b bench) parse(t *testing.T, yaml string) (*storage.Task, storage.Problems) {
	t.Helper()
	task, err := storage.Parse("task.yaml", []byte(yaml), b.opts)
	if err == nil {
		return task, nil
	}
	var problems storage.Problems
	if !errors.As(err, &problems) || len(problems) == 0 {
		t.Fatalf("error is no list of problems: %v", err)
	}
	for _, p := range problems {
		if strings.Contains(p.Error()+p.Hint, "\n") || p.File != "task.yaml" || (p.Line < 1 || p.Column < 1) && !strings.Contains(p.Message, "more problems") {
			t.Errorf("not one line with a place: %+v", p)
		}
	}
	return nil, problems
}

// one parses a task of one mount.
func (b bench) one(t *testing.T, yaml string) storage.Mount {
	t.Helper()
	task, problems := b.parse(t, yaml)
	if problems != nil || len(task.Mounts) != 1 {
		t.Fatalf("%s\ngot %+v, %v", yaml, task, problems)
	}
	return task.Mounts[0]
}

// refused parses a task that has one problem.
func (b bench) refused(t *testing.T, yaml, want string) storage.Problem {
	t.Helper()
	_, problems := b.parse(t, yaml)
	if len(problems) != 1 || !strings.Contains(problems[0].Message, want) {
		t.Errorf("%s\ngot  %v\nwant %s", yaml, problems, want)
		return storage.Problem{}
	}
	return problems[0]
}

// SkyPilot's verdict on names and sources, as it was found by running
// SkyPilot. "" is accepted, "!" is where skyagent knows better than SkyPilot,
// or has not the store.
func TestVerdicts(t *testing.T) {
	b := newBench(t)
	const (
		noSource = "new storage object: source must be specified when using COPY mode"
		noName   = "storage name must be specified if the source is local"
		neither  = "storage source or storage name must be specified"
		slash    = "storage source paths cannot end with a slash"
		missing  = "local source path does not exist"
		isFile   = "storage source path cannot be a file - only directories are supported"
		both     = "storage name should not be specified if the source is a remote URI"
		schemes  = "supported paths: local, s3://"
		prefix   = "prefix detected: name cannot start with "
		twice    = "cannot have multiple files or directories with the same name in source"
	)
	for _, tc := range []struct{ name, source, mount, copy string }{
		{"", "", neither, noSource},
		{"bkt", "", "", noSource},
		{"", "~/dir", noName, noName},
		{"bkt", "~/dir", "", ""},
		{"bkt", "~/dir/", slash, slash},
		{"bkt", "~/missing", missing, missing},
		{"bkt", "~/file", isFile, isFile},
		{"bkt", "~/dlink", "", ""},
		{"bkt", "~/flink", isFile, isFile},
		{"bkt", "~/broken", missing, missing},
		{"bkt", "s3://xyz", both, both},
		{"", "s3://xyz", "", ""},
		{"", "s3://xyz/", "", ""},
		{"", "s3://xyz/sub", "! mounts a part", ""},
		{"", "s3://xyz/sub/", "! mounts a part", ""},
		{"", "gs://xyz/k", "! mounts a part", ""},
		{"", "r2://xyz", "", ""},
		{"", "r2://xyz/p", "! mounts a part", ""},
		{"", "https://acct.blob.core.windows.net/c", schemes, schemes},
		{"", "https://example.com/f", schemes, schemes},
		{"", "cos://us-east/b", schemes, schemes},
		{"", "oci://b@us-sanjose-1", schemes, schemes},
		{"", "hf://buckets/ns/b/sub", schemes, schemes},
		{"", "ftp://x", schemes, schemes},
		{"", "S3://xyz", "", ""},
		{"", "file:///dir", schemes, schemes},
		{"s3://b", "", prefix + "s3://", noSource},
		{"GS://b", "", prefix + "gs://", noSource},
		{"bkt", "[~/file]", "", ""},
		{"bkt", "[~/file, ~/dir]", "", ""},
		{"bkt", "[~/dir, ~/other/dir]", twice, twice},
		{"bkt", "[~/dir/, ~/file]", slash, slash},
		{"bkt", "[~/missing]", missing, missing},
		{"bkt", "['s3://x']", missing, missing},
		{"", "[~/file]", noName, noName},
		{"bkt", "[~/dir, ~/dir]", twice, twice},
		{"''", "", neither, noSource},
		{"''", "~/dir", noName, noName},
	} {
		for mode, want := range map[string]string{"MOUNT": tc.mount, "COPY": tc.copy, "MOUNT_CACHED": tc.mount} {
			yaml := "file_mounts:\n  /m:\n    mode: " + mode + "\n"
			if tc.name != "" {
				yaml += "    name: " + tc.name + "\n"
			}
			if tc.source != "" {
				yaml += "    source: " + tc.source + "\n"
			}
			switch task, problems := b.parse(t, yaml); {
			case want == "" && (problems != nil || len(task.Warnings) > 0):
				t.Errorf("%s\ngot %v, want it to be accepted", yaml, problems)
			case strings.HasPrefix(want, "!"):
				if problems != nil || len(task.Warnings) != 1 || !strings.Contains(task.Warnings[0].Message, "SkyPilot mounts whole buckets only") {
					t.Errorf("%s\ngot %v, want a warning", yaml, problems)
				}
			case want != "" && !containsMessage(problems, want):
				t.Errorf("%s\ngot %v\nwant %s", yaml, problems, want)
			}
		}
	}
}

func containsMessage(problems storage.Problems, want string) bool {
	for _, p := range problems {
		if strings.Contains(p.Message, want) {
			return true
		}
	}
	return false
}

// A storage that we made may be copied by its name, and mounted too.
func TestKnownStorage(t *testing.T) {
	b := newBench(t)
	b.opts.Known = func(name string) bool { return name == "bkt" }
	for _, mode := range []string{"COPY", "MOUNT"} {
		m := b.one(t, "file_mounts: {/m: {name: bkt, mode: "+mode+"}}")
		if string(m.Mode) != mode || m.Name != "bkt" || m.External || m.Sources != nil {
			t.Errorf("got %+v", m)
		}
	}
}

// A worker has not the sources, and does not look for them.
func TestWorker(t *testing.T) {
	b := newBench(t)
	b.opts.Worker = true
	task, problems := b.parse(t, `
workdir: ~/nowhere
file_mounts:
  /plain: ~/nowhere
  /string: {name: bkt, source: ~/nowhere}
  /list: {name: bkt2, source: [~/no, ~/where], mode: COPY}
  /made: {name: bkt3, mode: COPY}
`)
	if problems != nil || len(task.Mounts) != 5 || len(task.Warnings) != 0 {
		t.Errorf("got %+v, %v", task, problems)
	}
	b.refused(t, "file_mounts: {/list: {name: bkt2, source: [~/a/x, ~/b/x]}}", "same name in source")
}

func TestRefuses(t *testing.T) {
	b := newBench(t)
	for yaml, want := range map[string]string{
		// The file as a whole.
		"just words":                               "YAML loaded as a string, not as a mapping",
		"[a, b]":                                   "YAML loaded as a list",
		"a: b: c":                                  "not valid YAML",
		"file_mounts: {":                           "not valid YAML",
		"name: a\n---\n7\n":                        "YAML loaded as an integer",
		"file_mounts: [~/dir]":                     "file_mounts is a list, not a mapping",
		"file_mounts: yes":                         "file_mounts is a boolean",
		"file_mount: {/m: ~/dir}":                  `there is no section "file_mount"`,
		"File-Mounts: {/m: ~/dir}":                 `there is no section "File-Mounts"`,
		"run: a\n---\nrun: b\n":                    "the file holds 2 tasks",
		"name: all\n---\nrun: a\n---\nrun: b\n":    "the file holds 2 tasks",
		"envs: [A]\nfile_mounts: {/m: ~/dir}":      "envs is a list",
		"envs: {A: [b]}\nfile_mounts: {/m: ~/dir}": "the value of A in envs is a list",
		// workdir.
		"workdir: ~/missing": "workdir does not exist locally",
		"workdir: ~/file":    "workdir must be a valid directory (or a symlink to a directory)",
		"workdir: 7":         "workdir is an integer, not a string",
		"workdir: ''":        `workdir "" cannot be a path`,
		"workdir: ~/dir\nfile_mounts: {~/sky_workdir: ~/dir}":              "it will be used by the workdir",
		"workdir: ~/dir\nfile_mounts: {~/sky_workdir: {source: s3://xyz}}": "it will be used by the workdir",
		// Paths.
		"file_mounts: {/m/: ~/dir}":            "mount paths cannot end with a slash",
		"file_mounts: {/m: ~/dir/}":            "mount paths cannot end with a slash",
		"file_mounts: {/m: s3://xyz/}":         "mount paths cannot end with a slash",
		"file_mounts: {s3://xyz: ~/dir}":       "file mount destination paths cannot be cloud storage",
		"file_mounts: {'gs://x': {name: bkt}}": "file mount destination paths cannot be cloud storage",
		"file_mounts: {'': ~/dir}":             "the mount path cannot be empty",
		"file_mounts: {~: ~/dir}":              "the mount path cannot be empty",
		"file_mounts: {/: {name: bkt}}":        "/ cannot be a mount path",
		"file_mounts: {../../m: ~/dir}":        "../../m cannot be a mount path",
		"file_mounts: {~/../m: ~/dir}":         "~/../m cannot be a mount path",
		"file_mounts: {/m: ~/missing}":         "file mount source does not exist locally: ~/missing",
		"file_mounts: {/m: ~/broken}":          "file mount source does not exist locally: ~/broken",
		"file_mounts: {/m: ~/file/x}":          "file mount source ~/file/x: not a directory",
		"file_mounts: {/m: \"~/a\\0b\"}":       "cannot be a path",
		"file_mounts: {/m: ftp://x}":           "supported paths: local, s3://, gs://, r2://. Got: ftp://x",
		"file_mounts: {/m: s3://}":             "mount paths cannot end with a slash",
		"file_mounts: {/m: {source: s3://}}":   "no bucket",
		"file_mounts: {/m: s3://b/a//k}":       "not clean",
		"file_mounts: {/m: [~/dir]}":           "unable to parse file_mount /m: it is a list",
		"file_mounts: {/m: 7}":                 "unable to parse file_mount /m: it is an integer",
		"file_mounts: {/m: }":                  "unable to parse file_mount /m: it is null",
		// Types.
		"file_mounts: {/m: {name: 123}}":                                  "name is an integer, not a string",
		"file_mounts: {/m: {name: yes}}":                                  "name is a boolean",
		"file_mounts: {/m: {name: 2024-01-01}}":                           "name is a date",
		"file_mounts: {/m: {name: [bkt]}}":                                "name is a list",
		"file_mounts: {/m: {name: bkt, source: 7}}":                       "source is an integer",
		"file_mounts: {/m: {name: bkt, source: {a: b}}}":                  "source is a mapping",
		"file_mounts: {/m: {name: bkt, source: [7]}}":                     "an element of source is an integer",
		"file_mounts: {/m: {name: bkt, source: []}}":                      "source is an empty list",
		"file_mounts: {/m: {name: bkt, source: ''}}":                      "cannot be a path",
		"file_mounts: {/m: {name: bkt, source: ['']}}":                    "cannot be a path",
		"file_mounts: {/m: {name: bkt, store: 1}}":                        "store is an integer",
		"file_mounts: {/m: {name: bkt, store: minio}}":                    `there is no store "minio"`,
		"file_mounts: {/m: {name: bkt, store: azure}}":                    "store azure is not supported",
		"file_mounts: {/m: {name: bkt, store: volume}}":                   "store volume is not supported",
		"file_mounts: {/m: {name: bkt, mode: rw}}":                        `there is no mode "rw"`,
		"file_mounts: {/m: {name: bkt, mode: 1}}":                         "mode is an integer",
		"file_mounts: {/m: {name: bkt, persistent: 'True'}}":              "persistent is a string, not a boolean",
		"file_mounts: {/m: {name: bkt, persistent: 1}}":                   "persistent is an integer",
		"file_mounts: {/m: {name: bkt, _is_sky_managed: 'no'}}":           "_is_sky_managed is a string",
		"file_mounts: {/m: {name: bkt, _force_delete: 0}}":                "_force_delete is an integer",
		"file_mounts: {/m: {name: bkt, _bucket_sub_path: 5}}":             "_bucket_sub_path is an integer",
		"file_mounts: {/m: {name: bkt, _bucket_sub_path: a/../b}}":        "is not relative and clean",
		"file_mounts: {/m: {name: bkt, config: 5}}":                       "config is an integer, not a mapping",
		"file_mounts: {/m: {name: bkt, config: {mount: [a]}}}":            "config.mount is a list, not a mapping",
		"file_mounts: {/m: {name: bkt, config: {mount: {read_only: 1}}}}": "config.mount.read_only is an integer",
		// Unknown keys, with or without a value.
		"file_mounts: {/m: {name: bkt, nmae: x}}":                     `invalid storage args: "nmae"`,
		"file_mounts: {/m: {name: bkt, region: }}":                    `invalid storage args: "region"`,
		"file_mounts: {/m: {name: bkt, config: {mnt: {}}}}":           `invalid storage args: "config.mnt"`,
		"file_mounts: {/m: {name: bkt, config: {mount: {ro: true}}}}": `invalid storage args: "config.mount.ro"`,
		// Combinations.
		"file_mounts: {/m: {name: bkt, type: DATASET_RO}}":                                                         "type is only for mode MOUNT_CACHED, and the mode is MOUNT",
		"file_mounts: {/m: {name: bkt, type: DATASET, mode: MOUNT_CACHED}}":                                        `there is no type "DATASET"`,
		"file_mounts: {/m: {name: bkt, config: {mount_cached: {transfers: 4}}}}":                                   "config.mount_cached is only for mode MOUNT_CACHED",
		"file_mounts: {/m: {name: bkt, source: ~/dir, mode: COPY, config: {mount: {}}}}":                           "config.mount is only for mode MOUNT, and the mode is COPY",
		"file_mounts: {/m: {name: bkt, mode: MOUNT_CACHED, config: {mount: {read_only: true}}}}":                   "config.mount is only for mode MOUNT, and the mode is MOUNT_CACHED",
		"file_mounts: {/m: {name: bkt, mode: MOUNT_CACHED, config: {mount_cached: {transfers: 0}}}}":               "not an integer of at least 1",
		"file_mounts: {/m: {name: bkt, mode: MOUNT_CACHED, config: {mount_cached: {vfs_read_chunk_streams: -1}}}}": "not an integer of at least 0",
		"file_mounts: {/m: {name: bkt, mode: MOUNT_CACHED, config: {mount_cached: {buffer_size: 10GB}}}}":          `config.mount_cached.buffer_size is "10GB"`,
		"file_mounts: {/m: {name: bkt, mode: MOUNT_CACHED, config: {mount_cached: {vfs_write_back: soon}}}}":       `config.mount_cached.vfs_write_back is "soon"`,
		"file_mounts: {/m: {source: s3://xyz, store: gcs}}":                                                        "store gcs does not match source s3://xyz",
		// Names by store.
		"file_mounts: {/m: {name: My_Bucket, store: s3}}": "can consist only of lowercase letters",
		"file_mounts: {/m: {name: my_bucket, store: r2}}": "can consist only of lowercase letters",
		"file_mounts: {/m: {name: goog-x, store: gcs}}":   `cannot begin with the "goog" prefix`,
		"file_mounts: {/m: {name: a/b, store: file}}":     "must not contain slashes",
		"file_mounts: {/m: {source: s3://My_Bucket}}":     "can consist only of lowercase letters",
	} {
		if p := b.refused(t, yaml, want); p.Hint == "" && p.Message != "" && !strings.Contains(p.Message, "write") && !strings.Contains(p.Message, "clean") {
			t.Errorf("%s: %s: no hint", yaml, p.Message)
		}
	}
}

func TestAccepts(t *testing.T) {
	b := newBench(t)
	for _, yaml := range []string{
		"", "---\n", "# nothing\n", "name: x\n", "name: x\n---\n", "run: ls\nsetup: 7\nanything: {goes: [here]}\n",
		"file_mounts:\n", "file_mounts: {}\n", "name: all\n---\nrun: ls\n", "---\n---\nrun: ls\n---\n",
		"envs:\nsecrets:\nworkdir:\n", "envs: {NEVER_USED: }\n",
		"resources: {cloud: 7}\n", "resources: [aws]\n",
	} {
		if task, problems := b.parse(t, yaml); problems != nil || len(task.Mounts) != 0 || len(task.Warnings) != 0 {
			t.Errorf("%q: got %+v, %v", yaml, task, problems)
		}
	}
	for _, mode := range []string{"mount", "Mount_Cached", "COPY", "copy"} {
		m := b.one(t, "file_mounts: {/m: {name: bkt, source: ~/dir, store: S3, mode: "+mode+"}}")
		if string(m.Mode) != strings.ToUpper(mode) || m.Store != storage.S3 {
			t.Errorf("%s: got %+v", mode, m)
		}
	}
	// Keys without values count as left out; YAML 1.1 has more booleans than ours.
	m := b.one(t, "file_mounts:\n  /m:\n    name: bkt\n    source:\n    store:\n    persistent:\n    mode:\n    type:\n    config:\n    _bucket_sub_path:\n")
	if m.Mode != storage.Live || !m.Persistent {
		t.Errorf("got %+v", m)
	}
	for word, want := range map[string]bool{"yes": true, "Off": false, "true": true, "FALSE": false} {
		if m := b.one(t, "file_mounts: {/m: {name: bkt, persistent: "+word+"}}"); m.Persistent != want {
			t.Errorf("persistent: %s: got %v", word, m.Persistent)
		}
	}
}

func TestMountPaths(t *testing.T) {
	b := newBench(t)
	for in, want := range map[string]string{
		"/a/b":          "/a/b",
		"/a/../b":       "/b",
		"~/a":           "~/a",
		"a/b":           "~/sky_workdir/a/b",
		"./a":           "~/sky_workdir/a",
		"../a":          "~/a",
		"~user/a":       "~/sky_workdir/~user/a",
		"/a b":          "/a b",
		"~/sky_workdir": "~/sky_workdir",
	} {
		if m := b.one(t, "file_mounts: {'"+in+"': ~/dir}"); m.Path != want {
			t.Errorf("%q: got %q, want %q", in, m.Path, want)
		}
	}
	// Only a storage's path may end with a slash.
	if m := b.one(t, "file_mounts: {/a/: {name: bkt}}"); m.Path != "/a" {
		t.Errorf("got %q", m.Path)
	}
}

func TestSources(t *testing.T) {
	b := newBench(t)
	in := func(name string) string { return filepath.Join(b.home, name) }
	for source, want := range map[string]storage.Source{
		"~/dir":    {Path: in("dir"), Dir: true},
		"dir":      {Path: in("dir"), Dir: true},
		"./dir/.":  {Path: in("dir"), Dir: true},
		"~":        {Path: b.home, Dir: true},
		".":        {Path: b.home, Dir: true},
		"~/dlink":  {Path: in("dir"), Dir: true},
		"~/file":   {Path: in("file")},
		"~/flink":  {Path: in("flink")}, // rsync copies the link itself
		in("file"): {Path: in("file")},
	} {
		m := b.one(t, "file_mounts: {/m: '"+source+"'}")
		if m.Mode != storage.Rsync || len(m.Sources) != 1 || m.Sources[0] != want || m.Store != "" || m.Name != "" {
			t.Errorf("%s: got %+v, want %+v", source, m, want)
		}
	}
	m := b.one(t, "file_mounts: {/m: {name: bkt, source: [~/mydir/myfile.txt, ~/datasets, .]}}")
	want := []storage.Source{
		{in("mydir/myfile.txt"), false, "myfile.txt"},
		{in("datasets"), true, "datasets"},
		{b.home, true, filepath.Base(b.home)},
	}
	if len(m.Sources) != 3 || m.Sources[0] != want[0] || m.Sources[1] != want[1] || m.Sources[2] != want[2] {
		t.Errorf("got %+v, want %+v", m.Sources, want)
	}
}

func TestWorkdir(t *testing.T) {
	b := newBench(t)
	m := b.one(t, "workdir: ~/dlink\n")
	if m.Path != "~/sky_workdir" || m.Mode != storage.Rsync || len(m.Sources) != 1 || m.Sources[0].Path != filepath.Join(b.home, "dir") {
		t.Errorf("got %+v", m)
	}
	task, problems := b.parse(t, "workdir: {url: https://example.com/x.git, ref: main}\n")
	if problems != nil || len(task.Mounts) != 0 || len(task.Warnings) != 1 || !strings.Contains(task.Warnings[0].Message, "git repository") {
		t.Errorf("got %+v, %v", task, problems)
	}
}

func TestURIs(t *testing.T) {
	b := newBench(t)
	for uri, want := range map[string]string{
		"s3://xyz":                             "s3 s3://xyz",
		"S3://xyz":                             "s3 s3://xyz",
		"gs://xyz/dir/train-00001-of-01024":    "gcs gs://xyz/dir/train-00001-of-01024",
		"r2://xyz/p":                           "r2 r2://xyz/p",
		"s3://xyz/p?endpoint=http://localhost": "s3 s3://xyz/p?endpoint=http%3A%2F%2Flocalhost",
		"s3://Old_Bucket/p":                    "s3 s3://Old_Bucket/p", // SkyPilot checks no name here
	} {
		m := b.one(t, "file_mounts: {/m: '"+uri+"'}")
		if got := string(m.Store) + " " + m.Location.String(); got != want || !m.External || m.Mode != storage.Copy || m.Sources != nil {
			t.Errorf("%s: got %s, %+v, want %s", uri, got, m, want)
		}
	}
	m := b.one(t, "file_mounts: {/m: {source: s3://xyz/a/, _bucket_sub_path: /b/c/, mode: COPY}}")
	if m.Location.URL() != "s3://xyz/a/b/c" || m.Name != "xyz" {
		t.Errorf("got %+v", m)
	}
}

func TestLocations(t *testing.T) {
	b := newBench(t)
	for fields, want := range map[string]string{
		"store: s3":                          "s3://bkt",
		"store: GCS":                         "gs://bkt",
		"store: r2, _bucket_sub_path: a/b":   "r2://bkt/a/b",
		"store: file":                        "file:///buckets/bkt",
		"store: file, _bucket_sub_path: a/b": "file:///buckets/bkt/a/b",
		"persistent: true":                   "file:///buckets/bkt",
	} {
		if m := b.one(t, "file_mounts: {/m: {name: bkt, "+fields+"}}"); m.Location.String() != want || m.External {
			t.Errorf("%s: got %+v, want %s", fields, m, want)
		}
	}
}

func TestConfig(t *testing.T) {
	b := newBench(t)
	for fields, want := range map[string]bool{
		"config: {mount: {read_only: true}}":                           true,
		"config: {mount: {read_only: }}":                               false,
		"config: {mount: }":                                            false,
		"mode: MOUNT_CACHED, config: {mount_cached: {read_only: yes}}": true,
		"mode: MOUNT_CACHED, type: MODEL_CHECKPOINT_RO":                true,
		"mode: MOUNT_CACHED, type: dataset_rw":                         false,
	} {
		if m := b.one(t, "file_mounts: {/m: {name: bkt, "+fields+"}}"); m.ReadOnly != want {
			t.Errorf("%s: got %v", fields, m.ReadOnly)
		}
	}
	task, problems := b.parse(t, `
file_mounts:
  /m:
    name: bkt
    mode: MOUNT_CACHED
    config:
      disk_size: 10
      mount_cached: {transfers: 8, buffer_size: 64M, vfs_cache_max_age: 1h30m, vfs_write_back: 42, vfs_read_chunk_streams: 0}
`)
	if problems != nil || len(task.Warnings) != 5 || task.Mounts[0].Transfers != 8 {
		t.Errorf("got %+v, %v", task, problems)
	}
}

func TestEnvs(t *testing.T) {
	b := newBench(t)
	b.opts.Env = func(name string) (string, bool) { return "from-outside", name == "GIVEN" }
	const envs = "envs: {SIZE: 7, FLAG: yes, RATE: 1.50, BIG: 1e+20, OCTAL: 010, TEXT: abc, GIVEN: , DIR: dir, SECRET: no}\nsecrets: {SECRET: key}\n"
	for in, want := range map[string]string{
		"/llama-${SIZE}b":  "/llama-7b",
		"/$SIZE":           "/7",
		"/${TEXT}/$TEXT":   "/abc/abc",
		"/$FLAG":           "/True",
		"/$RATE":           "/1.5",
		"/$BIG":            "/1e+20",
		"/$OCTAL":          "/8",
		"/$UNSET/${UNSET}": "/$UNSET/${UNSET}",
		"/$SIZEb":          "/$SIZEb",
		"/${SIZE":          "/7",
		"/$SECRET":         "/key",
		"/$GIVEN":          "/from-outside",
		"/$TEXTé":          "/abcé",
	} {
		if m := b.one(t, envs+"file_mounts: {'"+in+"': ~/$DIR}"); m.Path != want {
			t.Errorf("%s: got %s, want %s", in, m.Path, want)
		}
	}
	m := b.one(t, "envs: {S: r2, M: copy, N: abc, D: dir}\nfile_mounts: {/m: {name: b-$N, source: ['~/$D'], store: '${S}', mode: $M}}")
	if m.Name != "b-abc" || m.Sources[0].At != "dir" || m.Store != storage.R2 || m.Mode != storage.Copy {
		t.Errorf("got %+v", m)
	}
}

func TestEnvsRefused(t *testing.T) {
	b := newBench(t)
	p := b.refused(t, "envs: {A: }\nfile_mounts: {/m: ~/$A}", `environment variable "A" in envs has no value`)
	if p.Line != 2 {
		t.Errorf("got %+v", p)
	}
	if p := b.refused(t, "file_mounts: {/m: $HOME/dir}", "does not exist"); !strings.Contains(p.Hint, "envs") {
		t.Errorf("got %+v", p)
	}
}

// Anchors, aliases and merges are YAML's, and so SkyPilot's.
func TestAliases(t *testing.T) {
	b := newBench(t)
	task, problems := b.parse(t, `
common: &common {store: s3, mode: COPY, persistent: false}
other: &other {mode: MOUNT, source: ~/dir}
file_mounts:
  /a: &dir ~/dir
  /b: *dir
  /c: {<<: *common, name: bkt-c, source: *dir}
  /d: {<<: [*other, *common], name: bkt-d}
  /e: {mode: MOUNT, <<: *common, name: bkt-e}
`)
	if problems != nil || len(task.Mounts) != 5 || len(task.Warnings) != 0 {
		t.Fatalf("got %+v, %v", task, problems)
	}
	for i, want := range []struct {
		mode       storage.Mode
		store      storage.Store
		persistent bool
	}{{storage.Rsync, "", true}, {storage.Rsync, "", true}, {storage.Copy, storage.S3, false}, {storage.Live, storage.S3, false}, {storage.Live, storage.S3, false}} {
		if m := task.Mounts[i]; m.Mode != want.mode || m.Store != want.store || m.Persistent != want.persistent {
			t.Errorf("%s: got %+v, want %+v", m.Path, m, want)
		}
	}
}

// What a file says twice is taken as SkyPilot takes it, but not in silence.
func TestTwice(t *testing.T) {
	b := newBench(t)
	task, problems := b.parse(t, "envs: {D: /m}\nfile_mounts:\n  /m: ~/dir\n  $D: ~/datasets\n  /n: ~/dir\n  /n: ~/file\n")
	if problems != nil || len(task.Mounts) != 2 || len(task.Warnings) != 2 || filepath.Base(task.Mounts[0].Sources[0].Path) != "datasets" {
		t.Errorf("got %+v, %v", task, problems)
	}
}

// A file cannot be made to fill the memory or the time.
func TestBounds(t *testing.T) {
	b := newBench(t)
	deep := "a0: &a0 {name: bkt}\n"
	for i := range 200 {
		deep += strings.NewReplacer("N", strconv.Itoa(i), "M", strconv.Itoa(i+1)).Replace("aM: &aM {<<: *aN, kM: v}\n")
	}
	if _, problems := b.parse(t, deep+"file_mounts: *a200\n"); !containsMessage(problems, "more than 100 deep") {
		t.Errorf("got %v", problems)
	}
	var unknown strings.Builder
	for i := range 5000 {
		unknown.WriteString("k" + strconv.Itoa(i) + ": , ")
	}
	wide := "x: &x {" + unknown.String() + "}\nfile_mounts: {"
	for i := range 5000 {
		wide += "/m" + strconv.Itoa(i) + ": *x, "
	}
	if _, problems := b.parse(t, wide+"}\n"); len(problems) != 1001 || !strings.Contains(problems[1000].Message, "more") {
		t.Errorf("got %d problems", len(problems))
	}
	if _, err := storage.Parse("big.yaml", make([]byte, 2<<20), b.opts); err == nil || !strings.Contains(err.Error(), "larger than any task") {
		t.Errorf("got %v", err)
	}
	for _, yaml := range []string{
		"file_mounts: &a {/m: {<<: *a, name: bkt}}",
		"file_mounts: &a {<<: *a, /m: ~/dir}",
		"file_mounts: {/m: &a {source: [*a]}}",
	} {
		b.parse(t, yaml) // returns
	}
}
