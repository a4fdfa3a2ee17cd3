package storage

import (
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/skyagent/skyagent/objstore"
)

// A spec is a storage as a file has it, read but not yet judged.
type spec struct {
	node    *yaml.Node // the mapping
	name    string
	nameAt  *yaml.Node // nil without a name
	source  *yaml.Node // nil without a source
	store   Store      // "" without one
	storeAt *yaml.Node
	sub     string // _bucket_sub_path
	subAt   *yaml.Node
	preset  *yaml.Node // type
	mount   *yaml.Node // config.mount
	cached  *yaml.Node // config.mount_cached
	bad     bool       // something is wrong already
}

// storage reads a storage object. All of its problems are reported, as far as
// one does not follow from another.
func (r *reader) storage(m *Mount, n *yaml.Node, at site) bool {
	before := len(r.problems)
	s := &spec{node: n}
	m.Mode, m.Persistent = Live, true
	for _, f := range r.fieldsOf(n) {
		r.storageField(m, s, f)
	}
	r.modeConfig(m, s)
	switch {
	case s.source == nil:
		r.scratch(m, s)
	case kindOf(s.source) == kindList:
		r.sourceList(m, s)
	default:
		r.sourceString(m, s)
	}
	if !m.External && s.nameAt != nil {
		r.namedStorage(m, s, at)
	}
	return len(r.problems) == before
}

// storageField reads one key of a storage. A key without a value counts as
// left out.
func (r *reader) storageField(m *Mount, s *spec, f field) {
	v := f.value
	if slices.Contains(storageKeys, f.name) && kindOf(v) == kindNull {
		return
	}
	switch f.name {
	case "name":
		if text, ok := r.text(v, "name"); !ok {
			s.bad = true
		} else if text != "" {
			s.name, s.nameAt = text, v
		}
	case "source":
		s.source = v
	case "store":
		r.storeField(s, v)
	case "mode":
		r.modeField(m, s, v)
	case "persistent":
		r.boolean(&m.Persistent, v, f.name)
	case "_is_sky_managed", "_force_delete": // SkyPilot's own notes
		r.boolean(new(bool), v, f.name)
	case "_bucket_sub_path":
		if text, ok := r.text(v, f.name); ok {
			s.sub, s.subAt = strings.Trim(text, "/"), v
		}
	case "type":
		if preset := r.oneOf(v, "type", presets); preset != "" {
			s.preset, m.ReadOnly = v, m.ReadOnly || strings.HasSuffix(preset, "_RO")
		}
	case "config":
		r.config(m, s, v)
	default:
		r.problem(f.key, "a storage has name, source, store, persistent, mode, type and config"+didYouMean(f.name, storageKeys), "invalid storage args: %q", f.name)
	}
}

var storageKeys = []string{"name", "source", "store", "persistent", "mode", "type", "config", "_is_sky_managed", "_bucket_sub_path", "_force_delete"}

func (r *reader) boolean(to *bool, n *yaml.Node, what string) {
	if k := kindOf(n); k != kindBool {
		r.problem(n, "write true or false, without quotes", "%s is %s, not a boolean", what, k)
		return
	}
	*to = truth(n.Value)
}

// oneOf reads a word in upper or lower case, and returns it in upper case, or
// "" after a problem.
func (r *reader) oneOf(n *yaml.Node, what string, words []string) string {
	text, ok := r.text(n, what)
	if !ok {
		return ""
	}
	if up := strings.ToUpper(text); slices.Contains(words, up) {
		return up
	}
	r.problem(n, what+" is one of "+strings.Join(words, ", "), "there is no %s %q", what, text)
	return ""
}

func (r *reader) storeField(s *spec, n *yaml.Node) {
	s.storeAt = n
	text, ok := r.text(n, "store")
	if !ok {
		s.bad = true
		return
	}
	low := strings.ToLower(text)
	if store, ok := stores[low]; ok {
		s.store = store
		return
	}
	s.bad = true
	if slices.Contains(foreign, low) {
		r.problem(n, supported, "store %s is not supported", low)
		return
	}
	r.problem(n, "store is one of s3, gcs, r2, file", "there is no store %q", text)
}

func (r *reader) modeField(m *Mount, s *spec, n *yaml.Node) {
	word := r.oneOf(n, "mode", []string{string(Live), string(Copy), string(MountCached)})
	if word == "" {
		s.bad = true
		return
	}
	m.Mode = Mode(word)
}

// scratch judges a storage without a source: a bucket to write to, or one that
// we made before.
func (r *reader) scratch(m *Mount, s *spec) {
	if s.bad {
		return
	}
	known := s.name != "" && r.opts.Known(s.name)
	if m.Mode == Copy && !known && !r.opts.Worker {
		r.problem(s.node, "write source: PATH or URI, or mode: MOUNT for an empty storage to write to",
			"new storage object: source must be specified when using COPY mode")
		return
	}
	if s.nameAt == nil {
		r.problem(s.node, "write name: NAME for a storage to write to, or source: PATH or URI", "storage source or storage name must be specified")
	}
}

// sourceString judges a source that is one path or URI.
func (r *reader) sourceString(m *Mount, s *spec) {
	from, ok := r.text(s.source, "source")
	if !ok {
		return
	}
	if scheme(from) != "" {
		r.uriSource(m, s, from)
		return
	}
	r.needName(s)
	if !r.trailing(s.source, from) {
		return
	}
	src, ok := r.source(s.source, from, "local source path")
	if !ok {
		return
	}
	if !src.Dir && !r.opts.Worker {
		r.problem(s.source, "write source: ["+from+"], and it appears at "+path.Join(m.Path, filepath.Base(src.Path))+
			"; or without a bucket "+m.Path+": "+from, "storage source path cannot be a file - only directories are supported as a source")
		return
	}
	m.Sources = []Source{src}
}

// uriSource judges a source that is a bucket, or a part of one.
func (r *reader) uriSource(m *Mount, s *spec, from string) {
	m.External = true // whatever else is wrong: it is no name of ours
	if s.nameAt != nil {
		r.problem(s.nameAt, "leave out name: it is the bucket's", "storage name should not be specified if the source is a remote URI")
	}
	if !r.uri(m, s.source, from) {
		return
	}
	if s.storeAt != nil && !s.bad && s.store != m.Store {
		r.problem(s.storeAt, "leave out store: the URI says it", "store %s does not match source %s", s.store, from)
	}
	if err := CheckName(m.Store, m.Name); err != nil {
		r.problem(s.source, "check the URI", "%v", err)
	}
	if m.Mode != Copy && m.Location.Prefix != "" {
		r.warn(s.source, "", "SkyPilot mounts whole buckets only and refuses %s: skyagent mounts that part of it", from)
	}
	m.Location.Prefix = r.subPath(s, m.Location.Prefix)
}

// sourceList judges a list of local files and directories, which appear each
// under its own name.
func (r *reader) sourceList(m *Mount, s *spec) {
	r.needName(s)
	if len(s.source.Content) == 0 {
		r.problem(s.source, "list at least one path", "source is an empty list")
	}
	first := make(map[string]int) // lines by name
	before := len(r.problems)
	for _, n := range s.source.Content {
		r.listed(m, resolve(n), first)
	}
	if len(m.Sources) == 0 && len(s.source.Content) > 0 && len(r.problems) == before && !r.opts.Worker {
		r.problem(s.source, "list files and directories that are no links", "nothing of the source list can be uploaded")
	}
}

func (r *reader) listed(m *Mount, n *yaml.Node, first map[string]int) {
	from, ok := r.text(n, "an element of source")
	if !ok {
		return
	}
	if scheme(from) != "" {
		r.problem(n, "a list holds local paths; for a bucket write source: "+from, "local source path does not exist: %s", from)
		return
	}
	if !r.trailing(n, from) {
		return
	}
	at := filepath.Base(r.absolute(from))
	if line, twice := first[at]; twice {
		r.problem(n, "rename one, or put them into one directory", "cannot have multiple files or directories with the same name in source: "+
			"%s stands in line %d already", at, line)
		return
	}
	first[at] = n.Line
	if src, ok := r.listedSource(n, from); ok {
		src.At = at
		m.Sources = append(m.Sources, src)
	}
}

// listedSource looks at one path of a list. For a link SkyPilot uploads
// nothing and says nothing, and for a socket or the like it fails as a whole:
// both are left out here.
func (r *reader) listedSource(n *yaml.Node, from string) (Source, bool) {
	src, ok := r.source(n, from, "local source path")
	if !ok || r.opts.Worker {
		return src, ok
	}
	fi, err := r.opts.Files.Lstat(r.absolute(from))
	if err != nil {
		r.missing(n, from, "local source path", err)
		return Source{}, false
	}
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		r.warn(n, "list what it points to", "%s is a symbolic link, and links are not uploaded: it is left out", from)
		return Source{}, false
	case !fi.IsDir() && !fi.Mode().IsRegular():
		r.warn(n, "", "%s is neither a file nor a directory: it is left out", from)
		return Source{}, false
	}
	return src, true
}

// needName: a local source is uploaded into a bucket of that name.
func (r *reader) needName(s *spec) {
	if s.nameAt == nil && !s.bad {
		r.problem(s.source, "write name: NAME beside it", "storage name must be specified if the source is local")
	}
}

func (r *reader) trailing(n *yaml.Node, from string) bool {
	if !strings.HasSuffix(from, "/") {
		return true
	}
	r.problem(n, `try "/mydir: /mydir" or "/myfile: /myfile"`, "storage source paths cannot end with a slash: %s", from)
	return false
}

// namedStorage judges the name, and chooses the store where the file does not.
func (r *reader) namedStorage(m *Mount, s *spec, at site) {
	m.Name = s.name
	if head := scheme(s.name); slices.Contains(foreign, head) || schemes[head] != "" {
		r.problem(s.nameAt, "for a bucket that is there write source: "+s.name+"; for a new one write the bare name, and store: for where",
			"prefix detected: name cannot start with %s://", head)
		return
	}
	if s.bad {
		return
	}
	if m.Store = s.store; m.Store == "" {
		m.Store, m.Reason = Choose(at.cloud, r.opts.Credentials)
		if m.Store == cloudStores[at.cloud] {
			m.Region = at.region
		}
	}
	check := CheckNewName
	if r.opts.Known(s.name) {
		check = CheckName
	}
	if err := check(m.Store, s.name); err != nil {
		r.problem(s.nameAt, "choose another name", "%v", err)
		return
	}
	sub := r.subPath(s, "")
	m.Location = objstore.Location{Scheme: m.Store.Scheme(), Bucket: s.name, Prefix: sub}
	if m.Store == File {
		m.Location = objstore.Location{Scheme: "file", Bucket: path.Join(filepath.ToSlash(r.opts.Buckets), s.name, sub)}
	}
}

// subPath returns the prefix that is below prefix by _bucket_sub_path.
func (r *reader) subPath(s *spec, prefix string) string {
	if s.sub == "" {
		return prefix
	}
	if !fs.ValidPath(s.sub) || s.sub == "." {
		r.problem(s.subAt, "write it as a/b", "_bucket_sub_path %q is not relative and clean", s.sub)
		return prefix
	}
	return path.Join(prefix, s.sub)
}
