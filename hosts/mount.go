package hosts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

const (
	holdQuiet  = 250 * time.Millisecond // without a deletion before those that are held are decided on
	holdMax    = 10 * time.Second       // where they never stop coming
	waveQuiet  = time.Minute            // without a deletion, after which the next ones are judged by themselves
	guardFiles = 100                    // from how many files on the loss of half is a mass deletion
)

// A mount is one source and its way to every host.
type mount struct {
	Mount
	sync  *Sync
	links []*link

	mu     sync.Mutex // guards what follows
	tree   *tree      // nil before the first look
	held   map[string]held
	base   int       // files when the wave of deletions began
	last   time.Time // when the last deletion came
	first  time.Time // when the first of those held did
	reason string    // why what is held is not let through
	allow  bool      // a mass deletion may pass
	passed bool      // it did; the wave is not over
}

// A held is a path that is gone, and perhaps something else's now.
type held struct {
	dir   bool
	again bool // another kind of file has its name
	old   bool // it went while nobody looked: not every host has it
}

func newMount(s *Sync, m Mount) *mount {
	out := &mount{Mount: m, sync: s, held: make(map[string]held), allow: s.opts.AllowMassDelete}
	for i, host := range s.opts.Hosts {
		out.links = append(out.links, newLink(out, host, i))
	}
	return out
}

// run looks where batches say, and hands what is new to the links.
func (m *mount) run(ctx context.Context) error {
	batches := make(chan manifest.Batch)
	var reading sync.WaitGroup
	defer reading.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reading.Go(func() {
		for {
			b, err := m.Changes.Next(ctx)
			if err != nil {
				return
			}
			select {
			case batches <- b:
			case <-ctx.Done():
				return
			}
		}
	})
	due := time.NewTimer(holdMax)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case b := <-batches:
			m.take(b)
		case <-due.C:
			m.decide()
		}
		due.Reset(m.wait())
	}
}

// take looks where a batch says.
func (m *mount) take(b manifest.Batch) {
	var err error
	switch {
	case !m.begun():
		err = m.begin()
	case b.Rescan != "":
		err = m.rescan()
	default:
		m.look(b.Paths)
	}
	if err != nil {
		m.sync.opts.Log.Warn("source not looked at", "source", m.Source, "err", err)
	}
}

func (m *mount) begun() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tree != nil
}

// begin looks at the source for the first time: the links can begin, and what
// they sent in an earlier life and is gone waits to be decided on.
func (m *mount) begin() error {
	t, err := m.scan(nil)
	if err != nil {
		return fmt.Errorf("source %s: %w", m.Source, err)
	}
	gone := make(map[string]bool)
	base := t.files
	for _, l := range m.links {
		have, err := l.record.load()
		if err != nil {
			return err
		}
		lost := 0
		for name, s := range have {
			n := t.at(name)
			if n == nil || s.dir && !n.dir {
				gone[name] = s.dir
				if !s.dir {
					lost++
				}
			}
		}
		base = max(base, t.files+lost)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tree, m.base, m.last = t, base, time.Now()
	for name, dir := range gone {
		m.hold(path{name, dir}, true)
	}
	for _, l := range m.links {
		l.begin()
	}
	return nil
}

// scan looks at the source, which is a directory, or one name in it.
func (m *mount) scan(old *tree) (*tree, error) {
	if m.Dir {
		return scan(m.Source, m.sync.opts.Ignore, old)
	}
	t := newTree(filepath.Dir(m.Source), nil) // somebody asked for just this file
	_, err := os.Lstat(m.Source)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	t.look(filepath.Base(m.Source), t.judge(), &delta{})
	return t, nil
}

// rescan looks at the whole source. One that is not there is not looked at: it
// lost nothing.
func (m *mount) rescan() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, err := m.scan(m.tree)
	if err != nil {
		m.reason = lost
		return err
	}
	d := t.since(m.tree)
	before := m.tree.files
	m.tree = t
	m.settle(d, before)
	return nil
}

// look looks at some paths.
func (m *mount) look(paths []manifest.Path) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away() {
		m.reason = lost
		return
	}
	var d delta
	before := m.tree.files
	judge := m.tree.judge()
	for _, p := range paths {
		m.tree.look(string(p), judge, &d)
	}
	m.settle(d, before)
}

// settle hands on what changed, and holds what is gone until it is decided on.
func (m *mount) settle(d delta, before int) {
	now := time.Now()
	if len(d.gone) > 0 {
		if len(m.held) == 0 {
			m.first = now
			if now.Sub(m.last) > waveQuiet {
				m.base = before
				m.allow = m.allow && !m.passed // once
			}
		}
		m.base = max(m.base, before)
		m.last = now
	}
	for _, p := range d.gone {
		m.hold(p, false)
	}
	changed := slices.DeleteFunc(d.changed, m.keepBack)
	if len(m.held) > 0 && m.massive() == "" {
		m.reason = "" // so much came back that the rest can go
	} else if len(m.held) == 0 {
		m.reason = ""
	}
	for _, l := range m.links {
		l.put(changed)
	}
}

func (m *mount) hold(p path, old bool) {
	h := m.held[p.name]
	m.held[p.name] = held{dir: p.dir, again: h.again, old: old}
	if m.first.IsZero() {
		m.first = time.Now()
	}
}

// keepBack reports whether what is new at a path must wait for a deletion there.
// If not, what was held came back.
func (m *mount) keepBack(name string) bool {
	h, is := m.held[name]
	if n := m.tree.at(name); is && h.dir && n != nil && !n.dir {
		h.again = true
		m.held[name] = h
		return true
	}
	delete(m.held, name)
	return false
}

// wait returns when what is held is to be decided on.
func (m *mount) wait() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.held) == 0 || m.reason != "" {
		return holdMax
	}
	at := m.last.Add(holdQuiet)
	if limit := m.first.Add(holdMax); limit.Before(at) {
		at = limit
	}
	return max(0, time.Until(at))
}

// decide lets what is held through, or says why not.
func (m *mount) decide() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tree == nil || len(m.held) == 0 {
		return
	}
	if m.sync.opts.KeepDeleted {
		maps.DeleteFunc(m.held, func(name string, _ held) bool { return !m.replaced(name) })
	}
	m.reason = m.massive()
	if m.reason != "" && m.reason != lost && m.allow {
		m.reason, m.passed = "", true
	}
	if m.reason != "" {
		m.sync.opts.Log.Warn("guarded: deletions held back", "source", m.Source, "reason", m.reason)
		return
	}
	for _, l := range m.links {
		l.remove(m.held)
	}
	m.held = make(map[string]held)
}

// replaced reports whether a path must go because of something that has come in
// its place, or in that of a directory above it.
func (m *mount) replaced(name string) bool {
	for ; name != ""; name, _ = split(name) {
		if m.held[name].again {
			return true
		}
	}
	return false
}

// massive says why the loss of what is held is not believed.
func (m *mount) massive() string {
	files := 0
	for _, h := range m.held {
		if !h.dir {
			files++
		}
	}
	switch left := m.tree.files; {
	case !m.Dir || m.away():
		return lost
	case files > 1 && left == 0:
		return fmt.Sprintf("all %d files are gone from the source", files)
	case m.base >= guardFiles && 2*left < m.base:
		return fmt.Sprintf("%d of %d files are gone from the source at once", m.base-left, m.base)
	}
	return ""
}

// lost is why nothing is deleted where the source itself went.
const lost = "the source is gone or cannot be read"

// away reports whether the directory that is looked into is not there.
func (m *mount) away() bool {
	fi, err := os.Stat(m.tree.root)
	return err != nil || !fi.IsDir()
}

func (m *mount) guardedBy() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reason
}

// known returns how many files the source has, and what cannot be sent of it.
func (m *mount) known() (files int, skipped []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tree == nil {
		return 0, nil
	}
	return m.tree.files, slices.Clone(m.tree.skipped)
}

// stamps returns what is known of names; nil means all. What is gone is left out.
func (m *mount) stamps(names []string) []stamped {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []stamped
	if names == nil {
		m.tree.top.each("", func(name string, n *node) { out = append(out, stamped{name, sent{n.dir, n.stamp}}) })
		return out
	}
	for _, name := range names {
		if n := m.tree.at(name); n != nil {
			out = append(out, stamped{name, sent{n.dir, n.stamp}})
		}
	}
	return out
}
