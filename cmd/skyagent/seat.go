package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/storage"
	"github.com/skyagent/skyagent/storage/registry"
	"github.com/skyagent/skyagent/syncer"
)

const (
	firstPause = time.Second // after a file mount failed; it doubles
	lastPause  = time.Minute
)

// A seat is a place on this worker that a task wants filled: one file mount.
// It is filled again whenever what fills it ends.
type seat struct {
	agent *agent
	mount storage.Mount
	path  string // on this machine
	id    string // of its parts, one after the other
	flags agentFlags
	under *seat          // the innermost mount that the path lies in; nil for none
	inner sync.WaitGroup // the seats that lie in this one
	tried chan struct{}  // closed once it was in place, or failed
	empty *part          // reports while nothing fills the seat; keep's alone

	mu     sync.Mutex // guards what follows
	part   *part      // what fills it, or last did; nil before the first
	reason error      // why nothing fills it
	gone   bool       // the storage was deleted: it is not made again
	once   bool       // tried is closed
}

func (a *agent) newSeat(m storage.Mount, path string, f agentFlags) *seat {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &seat{agent: a, mount: m, path: path, id: partID(len(a.seats)), flags: f, tried: make(chan struct{})}
	a.seats = append(a.seats, s)
	return s
}

// findUnder looks for the mount that the path lies in: it comes first, or it
// would hide this one.
func (s *seat) findUnder(all []*seat) {
	for _, other := range all {
		rel, err := filepath.Rel(other.path, s.path)
		if err == nil && rel != "." && filepath.IsLocal(rel) && (s.under == nil || len(other.path) > len(s.under.path)) {
			s.under = other
		}
	}
	if s.under != nil {
		s.under.inner.Add(1)
	}
}

// run keeps the seat filled until ctx ends, and those within it have left: what
// they mounted keeps this one busy.
func (s *seat) run(ctx context.Context) {
	if s.under != nil {
		defer s.under.inner.Done()
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		s.inner.Wait()
		cancel()
	})()
	s.keep(own)
}

// keep fills the seat until ctx ends.
func (s *seat) keep(ctx context.Context) {
	if s.under != nil {
		select {
		case <-s.under.tried:
		case <-ctx.Done():
			return
		}
	}
	pause := firstPause
	defer s.occupied()
	for {
		err := s.fill(ctx)
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, context.Canceled) {
				s.agent.p.ui.warn("%s: %v", s.path, oneLine(err.Error()))
			}
			return
		}
		if s.wasReady() {
			pause = firstPause
		}
		if err == nil {
			err = errors.New("it was taken away")
		}
		s.failed(err, pause)
		s.vacant()
		rest(ctx, pause)
		pause = min(2*pause, lastPause)
	}
}

// rest waits for about the time of a pause.
func rest(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause/2 + rand.N(pause/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// fill fills the seat once, and returns when that has ended.
func (s *seat) fill(ctx context.Context) error {
	pt, l, err := s.begin(ctx)
	if err != nil {
		if pt != nil {
			pt.background.end()
		}
		return err
	}
	s.mu.Lock()
	s.part, s.reason = pt, nil
	s.mu.Unlock()
	err = pt.run(ctx, l)
	if pt.asked.Load() {
		s.mu.Lock()
		s.gone = true
		s.mu.Unlock()
	}
	return err
}

// begin finds out what the mount names, and returns what brings it here.
func (s *seat) begin(ctx context.Context) (*part, loop, error) {
	key, err := s.find(ctx)
	if err != nil {
		return nil, loop{}, err
	}
	t := target{name: s.mount.Location.URL(), location: s.mount.Location, transfers: s.mount.Transfers}
	if key != "" {
		t.location.Prefix = ""
	}
	f := s.mountFlags()
	uploads := ""
	if s.mount.Mode != storage.Copy {
		uploads = s.agent.p.mountUploads(t, s.path, f)
	}
	store, err := s.agent.p.openStore(ctx, t, uploads, s.agent.set)
	if err != nil {
		return nil, loop{}, err
	}
	s.occupied()
	pt := s.agent.newPart(t, store, s.id)
	pt.undo = append(pt.undo, s.leave)
	pt.onReady = s.arrived
	var l loop
	switch {
	case s.mount.Mode == storage.Copy && key != "":
		l = pt.followObject(ctx, key, s.path, s.flags.copyFlags())
	case s.mount.Mode == storage.Copy:
		l = pt.followReplica(ctx, s.path, s.flags.copyFlags())
	case key != "":
		err = withHint(fmt.Errorf("%s is one object, which cannot be mounted", s.mount.Location.URL()), "write mode: COPY")
	default:
		l, err = s.mounted(ctx, pt, f)
	}
	return pt, l, err
}

// mountFlags are the agent's, with what the task says of this mount.
func (s *seat) mountFlags() mountFlags {
	f := s.flags.mount
	f.readOnly = f.readOnly || s.mount.ReadOnly
	f.writeBack = f.writeBack || s.mount.Mode == storage.MountCached
	return f
}

// mounted mounts the storage; somebody else's bucket that we may not write only
// for reading.
func (s *seat) mounted(ctx context.Context, pt *part, f mountFlags) (loop, error) {
	l, err := pt.mount(ctx, s.path, f)
	if errors.Is(err, fs.ErrPermission) && s.mount.External && !f.readOnly {
		s.agent.p.ui.warn("%s: %s may not be written: it is mounted for reading", s.path, s.mount.Location.URL())
		f.readOnly = true
		l, err = pt.mount(ctx, s.path, f)
	}
	return l, err
}

// find returns the key of the object that the mount names, "" when it names a
// bucket or a part of one. Somebody else's bucket is asked without credentials
// where there are none.
func (s *seat) find(ctx context.Context) (key string, err error) {
	key, err = s.look(ctx)
	if s.mount.External && noCredentials(err) {
		s.mount.Location = anonymously(s.mount.Location)
		key, err = s.look(ctx)
	}
	return key, err
}

// look makes the bucket of a storage without sources when that is asked for,
// and looks at what is there.
func (s *seat) look(ctx context.Context) (key string, err error) {
	at := s.mount.Location
	below, err := s.open(ctx, at)
	if err != nil {
		return "", err
	}
	if s.makes() {
		if err := s.makeBucket(ctx, below); err != nil {
			return "", err
		}
	}
	if !s.mount.External || at.Prefix == "" {
		return "", s.there(ctx, below)
	}
	for _, err := range below.List(ctx, "", "") {
		return "", err
	}
	at.Prefix = ""
	whole, err := s.open(ctx, at)
	if err != nil {
		return "", err
	}
	_, err = whole.Head(ctx, s.mount.Location.Prefix)
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, objstore.ErrNoBucket) {
		return "", withHint(fmt.Errorf("%s: there is neither an object nor a prefix of that name", s.mount.Location.URL()), "check the URI")
	}
	return s.mount.Location.Prefix, err
}

// makeBucket makes the bucket, and records it as one of ours. One that others made
// is left as it is.
func (s *seat) makeBucket(ctx context.Context, store objstore.Store) error {
	p, t := s.agent.p, targetOfMount(&s.mount)
	rec, ours, err := p.recorded(ctx, t.name)
	if err != nil {
		return err
	}
	if there, err := store.BucketExists(ctx); err == nil && there && !ours {
		return nil
	}
	use, err := p.claim(ctx, t, store)
	if err != nil || use == storage.Theirs || use == storage.Ours && rec.State != registry.Init {
		return err
	}
	return p.note(func(reg *registry.Registry) error { return reg.SetState(ctx, t.name, registry.Ready) })
}

// makes reports whether the bucket is the worker's to make.
func (s *seat) makes() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flags.create && !s.gone && !s.mount.External && s.mount.Sources == nil
}

// there says clearly that a bucket is missing. Who may not ask is told by what
// follows.
func (s *seat) there(ctx context.Context, store objstore.Store) error {
	ok, err := store.BucketExists(ctx)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil
	case err != nil || ok:
		return err
	case s.mount.External:
		return &objstore.Error{Op: objstore.OpBucketExists, Bucket: s.mount.Location, Err: objstore.ErrNoBucket}
	}
	return withHint(&objstore.Error{Op: objstore.OpBucketExists, Bucket: s.mount.Location, Err: objstore.ErrNoBucket},
		"run skyagent watch -f or skyagent storage create where the task is from, or --create here for storages without a source")
}

func (s *seat) open(ctx context.Context, at objstore.Location) (objstore.Store, error) {
	return s.agent.p.openStore(ctx, target{location: at}, "", s.agent.set)
}

// arrived notes that the seat is filled.
func (s *seat) arrived() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
}

// settle is called with mu held.
func (s *seat) settle() {
	if !s.once {
		s.once = true
		close(s.tried)
	}
}

// leave notes that what filled the seat has ended.
func (s *seat) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reason = errors.New("it has ended")
}

func (s *seat) wasReady() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.part != nil && s.part.ready.Load()
}

// notReady says why the seat is not filled.
func (s *seat) notReady() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.reason != nil:
		return fmt.Errorf("%s: %w", s.path, s.reason)
	case s.part == nil || !s.part.ready.Load():
		return fmt.Errorf("%s: not in step yet", s.path)
	}
	return nil
}

// A seatLine is what agent --json prints when a file mount failed.
type seatLine struct {
	Path  string  `json:"path"`
	Error string  `json:"error"`
	Retry float64 `json:"retry_seconds"`
}

func (s *seat) failed(err error, pause time.Duration) {
	s.mu.Lock()
	s.part, s.reason = nil, err
	s.settle()
	s.mu.Unlock()
	p := s.agent.p
	words := oneLine(wordsFor(err))
	p.ui.warn("%s: %s; tried again in %v", s.path, words, pause)
	p.ui.hint(err)
	p.ui.record(seatLine{Path: s.path, Error: words, Retry: pause.Seconds()})
}

// vacant lets status say why nothing fills the seat, until occupied.
func (s *seat) vacant() {
	if s.empty != nil {
		return
	}
	t := target{name: s.mount.Location.URL(), location: s.mount.Location}
	s.empty = s.agent.newPart(t, nil, s.id)
	role, mode := "mount", "MOUNT"
	if s.mount.Mode == storage.Copy {
		role, mode = "copy", "COPY"
	}
	s.empty.report(s.empty.presence(mountID(s.path), role, mode, s.path), func(r *agentRecord) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.reason != nil {
			r.State, r.Reason = string(syncer.StateDegraded), oneLine(s.reason.Error())
		}
	})
}

// occupied ends vacant: what is about to fill the seat speaks for itself.
func (s *seat) occupied() {
	if s.empty != nil {
		s.empty.background.end()
		s.empty = nil
	}
}

// followObject returns the loop that keeps file the same as one object.
func (pt *part) followObject(ctx context.Context, key, file string, f copyFlags) loop {
	p, t := pt.p, pt.target
	feed := bus.NewFeed(pt.conn, t.token(), pt.verifier(), pt.log)
	wake := make(chan struct{}, 1)
	pt.service("feed", func(ctx context.Context) error {
		return feed.Run(ctx, func(bus.Heard) {
			select {
			case wake <- struct{}{}:
			default:
			}
		})
	})
	hook := newHook(f.exec, filepath.Dir(file), p.ui)
	pt.service("exec", hook.run)
	t.location.Prefix = key
	var object *syncer.Object
	object = syncer.NewObject(syncer.ObjectOptions{
		File: file, Store: pt.store, Key: key, Wake: wake, Poll: f.poll, Log: pt.log,
		State:   p.places.index("objects", t.stateName(p.flags.source, file)),
		Applied: func() { hook.changed(filepath.Base(file)) },
		Ready: func() {
			pt.setReady()
			size := object.Status().Size
			p.ui.say("copied %s → %s: %s", t.location.URL(), file, bytesOf(size))
			p.ui.record(readyLine{Ready: true, Storage: t.location.URL(), Path: file, Files: 1, Bytes: size, Metrics: pt.metricsURL})
		},
	})
	pt.oblige(nil)
	pt.report(pt.presence(mountID(file), "copy", "COPY", file), func(r *agentRecord) {
		st := object.Status()
		r.State, r.Reason = string(st.State), st.Reason
	})
	return loop{part: pt, run: object.Follow}
}
