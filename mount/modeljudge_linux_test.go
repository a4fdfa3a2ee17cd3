package mount

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/storetest"
)

// A modelFile is a file as its programs know it: what it held, one content after
// the other. It follows its node from name to name and from life to life.
type modelFile struct {
	states  []string
	closed  []bool // of each, whether others may see it
	acked   int    // the last for which a close returned; -1 is none
	writers int    // open for writing
	closing int    // closes, fsyncs and their like that are under way
	names   map[string]bool
	over    []*modelFile // what it replaced by a rename
	removed bool         // by a program on the mount
	theirs  bool         // its first content is of others
}

func newModelFile(path, content string) *modelFile {
	return &modelFile{states: []string{content}, closed: []bool{false}, acked: -1, names: map[string]bool{path: true}}
}

func (f *modelFile) now() string { return f.states[f.last()] }
func (f *modelFile) last() int   { return len(f.states) - 1 }

// becomes gives f another content.
func (f *modelFile) becomes(content string) {
	f.states, f.closed = append(f.states, content), append(f.closed, false)
	f.settle()
}

// settle notes that what f holds now may be seen by others, if that is so.
func (f *modelFile) settle() {
	if f.writers == 0 || f.closing > 0 {
		f.closed[f.last()] = true
	}
}

// shows reports whether content is one that f had from state from on, and that
// others may see.
func (f *modelFile) shows(content string, from int) bool {
	for i := max(0, from); i < len(f.states); i++ {
		if f.closed[i] && f.states[i] == content {
			return true
		}
	}
	return false
}

// had reports whether f, or what it replaced, ever held content.
func (f *modelFile) had(content string) bool {
	return slices.Contains(f.states, content) || slices.ContainsFunc(f.over, func(v *modelFile) bool { return v.had(content) })
}

// replaced reports whether f took the place of other, or of what did.
func (f *modelFile) replaced(other *modelFile) bool {
	return slices.ContainsFunc(f.over, func(v *modelFile) bool { return v == other || v.acked < 0 && v.replaced(other) })
}

// A version is what the bucket had at a key.
type version struct {
	key, content string
	theirs       bool   // others wrote it
	ended        string // "", or who replaced or removed it: ours or theirs
}

const (
	ours   = "ours"
	theirs = "theirs"
)

// A judge knows all that the bucket ever had and all that programs did, and says
// whether what the mount does there may be.
type judge struct {
	bucket   *storetest.Memory
	versions map[objstore.Rev]*version
	files    []*modelFile
	doomed   map[string][]*modelFile // by key: what programs removed there
	touched  map[string]time.Time    // by key: when
	faults   []string
}

func newJudge() *judge {
	return &judge{bucket: storetest.NewMemory(), versions: map[objstore.Rev]*version{},
		doomed: map[string][]*modelFile{}, touched: map[string]time.Time{}}
}

func (j *judge) blame(format string, args ...any) {
	j.faults = append(j.faults, fmt.Sprintf(format, args...))
}

// rev returns what stands at key.
func (j *judge) rev(key string) objstore.Rev {
	info, _ := j.bucket.Head(context.Background(), key) // "" is nothing
	return info.Rev
}

// put judges a content that the mount has put in the place of was.
func (j *judge) put(key string, was, rev objstore.Rev, content string, opts objstore.PutOptions) {
	j.become(key, was, rev, &version{key: key, content: content}, ours)
	if strings.HasSuffix(key, "/") {
		return
	}
	j.judgeMeta(key, content, opts)
	if opts.Cond == (objstore.Cond{}) {
		j.blame("put of %s without a condition", key)
	}
	name, _, beside := strings.Cut(key, ".skyagent-conflict-")
	var from []*modelFile
	for _, f := range j.files {
		if (f.names[name] || beside) && f.shows(content, 0) {
			from = append(from, f)
		}
	}
	if len(from) == 0 {
		j.blame("put of %s has %q, which no close left there", key, brief(content))
	}
	if v := j.versions[was]; v != nil && v.theirs && !slices.ContainsFunc(from, func(f *modelFile) bool { return f.had(v.content) }) {
		j.blame("put of %s replaces %q of others, on which it does not follow", key, brief(v.content))
	}
}

// judgeMeta wants an object to say the hash that it has, if it says any.
func (j *judge) judgeMeta(key, content string, opts objstore.PutOptions) {
	if hash := opts.Meta[manifest.MetaHash]; hash != "" && hash != manifest.Sum([]byte(content)).String() {
		j.blame("%s has %q and the hash of something else", key, brief(content))
	}
}

// copied judges a copy over was. standing was at dst when it was asked for.
func (j *judge) copied(dst, src string, was, standing, from, rev objstore.Rev, issued time.Time, opts objstore.PutOptions) {
	source := j.versions[from]
	j.judgeMeta(dst, source.content, opts)
	if dst != src {
		j.judgeLoss("copy to", dst, was, standing, issued)
	}
	j.become(dst, was, rev, &version{key: dst, content: source.content, theirs: source.theirs}, ours)
}

// deleted judges a deletion of was.
func (j *judge) deleted(key string, was, standing objstore.Rev, issued time.Time) {
	j.judgeLoss("delete of", key, was, standing, issued)
	j.become(key, was, "", nil, ours)
}

// judgeLoss judges a change without a condition: what others wrote goes only
// where a program saw it, or where it came at nearly the same moment.
func (j *judge) judgeLoss(what, key string, was, standing objstore.Rev, issued time.Time) {
	v := j.versions[was]
	if v == nil || !v.theirs || was != standing || issued.Sub(j.touched[key]) <= late ||
		slices.ContainsFunc(j.doomed[key], func(f *modelFile) bool { return f.had(v.content) }) {
		return
	}
	j.blame("%s %s takes away %q of others, which nobody here had seen", what, key, brief(v.content))
}

// become notes that now stands at key as rev; nil is nothing.
func (j *judge) become(key string, was, rev objstore.Rev, now *version, by string) {
	if v := j.versions[was]; v != nil {
		v.ended = by
	}
	if now != nil {
		j.versions[rev] = now
	}
}

// doom notes that a program has removed f from key, or put another in its place.
func (j *judge) doom(key string, f *modelFile) {
	j.touched[key] = time.Now()
	if f != nil {
		j.doomed[key] = append(j.doomed[key], f)
	}
}

// kept reports whether f is in the bucket as it was in state from or later, or was
// there until others took it away.
func (j *judge) kept(f *modelFile, from int) bool {
	for _, v := range j.versions {
		if v.ended != ours && f.shows(v.content, from) {
			return true
		}
	}
	return false
}

// forgone reports whether programs here removed a file that held content.
func (j *judge) forgone(f *modelFile, from int) bool {
	for _, other := range j.files {
		if !other.removed {
			continue
		}
		for _, content := range f.states[max(0, from):] {
			if slices.Contains(other.states, content) {
				return true
			}
		}
	}
	return false
}

// judgeEnd wants all that was acknowledged to be in the bucket.
func (j *judge) judgeEnd() {
	for _, f := range j.files {
		if f.acked >= 0 && !f.removed && !j.kept(f, f.acked) && !j.forgone(f, f.acked) {
			j.blame("%q, for which a close of %v returned, is not in the bucket", brief(f.states[f.acked]), sortedKeys(f.names))
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func brief(content string) string {
	if len(content) > 60 {
		return fmt.Sprintf("%s… (%d bytes)", content[:60], len(content))
	}
	return content
}
