package storage

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/skyagent/skyagent/objstore"
)

// Options are what a task file does not say.
type Options struct {
	Env     func(string) (string, bool) // os.LookupEnv
	Home    string                      // what ~ is in a source
	Dir     string                      // where relative sources start: the working directory, as for SkyPilot
	Buckets string                      // the directory of file stores
	Files   Files                       // Disk
	// Worker says that the file is read on a worker. The sources of its
	// storages are elsewhere, and are not looked at.
	Worker bool
	// Known says whether we made the storage of that name.
	Known func(name string) bool
	// Credentials are what FindCredentials found.
	Credentials []Credential
}

// Files is what a file system says of the names in it.
type Files interface {
	Lstat(name string) (fs.FileInfo, error)
	EvalSymlinks(name string) (string, error)
}

// Disk is the machine's own file system.
type Disk struct{}

func (Disk) Lstat(name string) (fs.FileInfo, error)   { return os.Lstat(name) }
func (Disk) EvalSymlinks(name string) (string, error) { return filepath.EvalSymlinks(name) }

// A Task is what a task file says of files.
type Task struct {
	Name     string
	Mounts   []Mount // in the file's order; workdir, which is one too, comes first
	Warnings Problems
}

// A Mode is how files come to a worker.
type Mode string

const (
	Rsync       Mode = "RSYNC" // straight from here, without a bucket
	Copy        Mode = "COPY"
	Live        Mode = "MOUNT"
	MountCached Mode = "MOUNT_CACHED"
)

// A Mount is a path on the workers and where its content comes from.
type Mount struct {
	Path string // absolute, or "~" or below "~/", by slashes and clean
	Mode Mode

	// Of all but Rsync.
	Name     string // the storage's and the bucket's
	Store    Store
	Reason   string // why this store, where the file does not say
	Region   string // where a new bucket is to be made; "" leaves it to the store
	Location objstore.Location
	// External says that the bucket was given by a URI: it must be there, and
	// is neither made, nor listed, nor deleted. Location may name one object.
	External   bool
	Persistent bool
	ReadOnly   bool
	Transfers  int // at a time, 0 when the file does not say

	// Sources are what stands here: of a storage, what is uploaded. A scratch
	// storage and an external bucket have none.
	Sources []Source

	File         string // the task file, and where in it
	Line, Column int
}

// A Source is a local file or directory.
type Source struct {
	Path string // absolute; a link to a directory is resolved
	Dir  bool
	At   string // the name below the mount's root; "" puts a directory's content there, or makes the file the path itself
}

// workdirPath is where SkyPilot puts workdir, and what relative paths of
// mounts start from.
const workdirPath = "~/sky_workdir"

// maxFile is far above any task.
const maxFile = 1 << 20

// Parse reads a task file of SkyPilot's. The error is of type Problems, and
// holds all of them.
func Parse(file string, content []byte, opts Options) (*Task, error) {
	r := &reader{file: file, opts: opts, fields: make(map[*yaml.Node][]field)}
	task := &Task{}
	if len(content) > maxFile {
		r.problem(nil, "name a task file of SkyPilot's", "the file is larger than any task: %d bytes", len(content))
	} else if root := r.document(content); root != nil {
		r.task(task, r.fieldsOf(root))
	}
	if len(r.problems) > 0 {
		r.problems.sort()
		if len(r.problems) == maxProblems {
			r.problems = append(r.problems, Problem{File: file, Message: "there may be more problems"})
		}
		return nil, r.problems
	}
	r.warnings.sort()
	task.Warnings = r.warnings
	return task, nil
}

// task reads the sections that are about files. All others are SkyPilot's.
func (r *reader) task(t *Task, fields []field) {
	r.readEnvs(fields)
	at := r.site(fields)
	workdir := false
	for _, f := range fields {
		switch {
		case f.name == "name" && kindOf(f.value) == kindString:
			t.Name = f.value.Value
		case f.name == "workdir" && kindOf(f.value) != kindNull:
			workdir = true
			t.Mounts = append(t.Mounts, r.workdir(f.value)...)
		}
	}
	for _, f := range fields {
		switch {
		case f.name == "file_mounts":
			t.Mounts = append(t.Mounts, r.fileMounts(f.value, workdir, at)...)
		case looksLikeFileMounts(f.name):
			r.problem(f.key, "write file_mounts", "there is no section %q", f.name)
		}
	}
}

func looksLikeFileMounts(name string) bool {
	bare := strings.TrimSuffix(strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(name)), "s")
	return bare == "filemount"
}

// A site is where a task runs, as it says under resources.
type site struct{ cloud, region string } // in lower case; "" where it does not say

// site reads cloud: aws and region: us-east-1, or infra: aws/us-east-1.
func (r *reader) site(task []field) site {
	var s site
	for _, f := range task {
		if f.name != "resources" || kindOf(f.value) != kindMapping {
			continue
		}
		for _, f := range r.fieldsOf(f.value) {
			if kindOf(f.value) != kindString {
				continue
			}
			switch text := strings.ToLower(f.value.Value); f.name {
			case "cloud":
				s.cloud = text
			case "region":
				s.region = text
			case "infra":
				var rest string
				s.cloud, rest, _ = strings.Cut(text, "/")
				s.region, _, _ = strings.Cut(rest, "/")
			}
		}
	}
	if s.region == "*" {
		s.region = ""
	}
	return s
}

// fileMounts reads the section of that name. Of two mounts with one path the
// last is taken, as SkyPilot has it.
func (r *reader) fileMounts(n *yaml.Node, workdir bool, at site) []Mount {
	switch kindOf(n) {
	case kindNull:
		return nil
	case kindMapping:
	default:
		r.problem(n, "write PATH: SOURCE, a line each", "file_mounts is %s, not a mapping", kindOf(n))
		return nil
	}
	var mounts []Mount
	index := make(map[string]int)
	for _, f := range r.fieldsOf(n) {
		if len(r.problems) == maxProblems {
			break
		}
		m := Mount{File: r.file, Line: f.key.Line, Column: f.key.Column}
		to, ok := r.fill(f.key, f.name)
		ok = ok && r.mountPath(&m, f, to, workdir)
		switch kindOf(f.value) {
		case kindString:
			ok = r.plain(&m, f.value, to) && ok
		case kindMapping:
			ok = r.storage(&m, f.value, at) && ok
		default:
			r.problem(f.value, "write a local path, a bucket's URI, or a storage with name: and source:; a list stands under source:",
				"unable to parse file_mount %s: it is %s", to, kindOf(f.value))
			ok = false
		}
		if !ok {
			continue
		}
		if i, twice := index[m.Path]; twice {
			r.warn(f.key, "remove one of them", "%s is mounted in line %d already: the last one is taken", m.Path, mounts[i].Line)
			mounts[i] = m
			continue
		}
		index[m.Path] = len(mounts)
		mounts = append(mounts, m)
	}
	return mounts
}
