package storage

import (
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"go.yaml.in/yaml/v3"

	"github.com/skyagent/skyagent/objstore"
)

// mountPath checks where a mount is to appear. Only a plain mount's path must
// not end with a slash: SkyPilot lets a storage's.
func (r *reader) mountPath(m *Mount, f field, to string, workdir bool) bool {
	if to == "" || kindOf(resolve(f.key)) == kindNull {
		r.problem(f.key, "write where the files are to appear on the workers", "the mount path cannot be empty")
		return false
	}
	if scheme(to) != "" {
		r.problem(f.key, "write PATH: URI, the path on the workers first", "file mount destination paths cannot be cloud storage: %s", to)
		return false
	}
	if strings.ContainsRune(to, 0) {
		r.problem(f.key, "", "the mount path %q cannot be a path", to)
		return false
	}
	from := to
	if !strings.HasPrefix(to, "/") && to != "~" && !strings.HasPrefix(to, "~/") {
		from = workdirPath + "/" + to
	}
	m.Path = path.Clean(from)
	if m.Path == "/" || m.Path[0] != '/' && m.Path != "~" && !strings.HasPrefix(m.Path, "~/") {
		r.problem(f.key, "write an absolute path, one below ~/, or one relative to "+workdirPath, "%s cannot be a mount path", to)
		return false
	}
	if m.Path == workdirPath && workdir {
		r.problem(f.key, "specify the full path to the file or directory: "+workdirPath+"/NAME",
			"cannot use %q as a destination path of a file mount, as it will be used by the workdir", workdirPath)
		return false
	}
	return true
}

// plain reads "PATH: SOURCE": a local source is sent by rsync, a URI is copied.
func (r *reader) plain(m *Mount, n *yaml.Node, to string) bool {
	from, ok := r.fill(n, n.Value)
	if !ok {
		return false
	}
	if strings.HasSuffix(to, "/") || strings.HasSuffix(from, "/") {
		r.problem(n, `try "/mydir: /mydir" or "/myfile: /myfile"`, "mount paths cannot end with a slash: %s: %s", to, from)
		return false
	}
	m.Persistent = true
	if s := scheme(from); s != "" {
		m.Mode = Copy
		return r.uri(m, n, from)
	}
	m.Mode = Rsync
	src, ok := r.source(n, from, "file mount source")
	m.Sources = []Source{src}
	return ok
}

// workdir is a plain mount to workdirPath. SkyPilot's newer form, a git
// repository, is SkyPilot's to clone.
func (r *reader) workdir(n *yaml.Node) []Mount {
	if kindOf(n) == kindMapping {
		r.warn(n, "", "workdir is a git repository, which SkyPilot clones on the workers by itself: it is left alone")
		return nil
	}
	from, ok := r.text(n, "workdir")
	if !ok {
		return nil
	}
	src, ok := r.source(n, from, "workdir")
	if ok && !src.Dir && !r.opts.Worker {
		r.problem(n, "name the directory that holds it", "workdir must be a valid directory (or a symlink to a directory): %s is none", from)
		ok = false
	}
	if !ok {
		return nil
	}
	return []Mount{{Path: workdirPath, Mode: Rsync, Persistent: true, Sources: []Source{src}, File: r.file, Line: n.Line, Column: n.Column}}
}

// uri reads the URI of a bucket, of a prefix in it, or of an object.
func (r *reader) uri(m *Mount, n *yaml.Node, from string) bool {
	store, ok := schemes[scheme(from)]
	if !ok {
		r.problem(n, supported, "supported paths: local, s3://, gs://, r2://. Got: %s", from)
		return false
	}
	at, err := objstore.ParseLocation(from)
	if err != nil {
		r.problem(n, "", "%v", err)
		return false
	}
	m.Location, m.Store, m.Name, m.External = at, store, at.Bucket, true
	m.Reason = "the source is " + at.Scheme + "://"
	return true
}

// source looks at one local source. A link to a directory is resolved.
func (r *reader) source(n *yaml.Node, from, what string) (Source, bool) {
	if from == "" || strings.ContainsRune(from, 0) {
		r.problem(n, "write the path of a file or directory; . is the working directory", "%s %q cannot be a path", what, from)
		return Source{}, false
	}
	src := Source{Path: r.absolute(from)}
	if r.opts.Worker {
		return src, true
	}
	fi, err := r.opts.Files.Lstat(src.Path)
	if err == nil && fi.Mode()&fs.ModeSymlink != 0 {
		var real string
		if real, err = r.opts.Files.EvalSymlinks(src.Path); err == nil {
			fi, err = r.opts.Files.Lstat(real)
		}
		if err == nil && fi.IsDir() {
			src.Path = real
		}
	}
	if err != nil {
		r.missing(n, from, what, err)
		return Source{}, false
	}
	src.Dir = fi.IsDir()
	return src, true
}

func (r *reader) missing(n *yaml.Node, from, what string, err error) {
	hint := "check that it exists, and correct the path"
	if reference.MatchString(from) {
		hint = "what stands after $ must be set under envs: in the file"
	}
	if errors.Is(err, fs.ErrNotExist) {
		r.problem(n, hint, "%s does not exist locally: %s", what, from)
		return
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	r.problem(n, hint, "%s %s: %v", what, from, err)
}

// absolute is what Python's abspath and expanduser make of a path.
func (r *reader) absolute(from string) string {
	switch p := filepath.FromSlash(from); {
	case from == "~":
		return r.opts.Home
	case strings.HasPrefix(from, "~/"):
		return filepath.Join(r.opts.Home, p[2:])
	case filepath.IsAbs(p):
		return filepath.Clean(p)
	default:
		return filepath.Join(r.opts.Dir, p)
	}
}
