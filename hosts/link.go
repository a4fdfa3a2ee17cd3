package hosts

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// lastRetry is the longest pause between tries.
const lastRetry = time.Minute

// A link is one mount's way to one host.
type link struct {
	mount  *mount
	remote *remote
	record record
	index  int           // the host's
	wake   chan struct{} // holds a token while there may be work

	mu      sync.Mutex // guards what follows
	pass    bool       // everything is to be sent
	passed  bool       // everything was, once
	todo    map[string]task
	busy    bool
	problem string
	retry   time.Duration
	partly  bool // the last failure was of some paths alone
}

// A task is what is to happen to a path.
type task struct {
	put        bool
	gone, dir  bool // it is deleted first; it was a directory
	onlyIfSent bool // the host may not have had it from us
}

func newLink(m *mount, host string, index int) *link {
	return &link{
		mount: m, index: index, wake: make(chan struct{}, 1), todo: make(map[string]task),
		record: record{m.sync.recordFile(host, m.Mount)},
		remote: &remote{host: host, ssh: m.sync.opts.SSH},
	}
}

// begin makes the link send everything.
func (l *link) begin() {
	l.mu.Lock()
	l.pass = true
	l.mu.Unlock()
	l.rouse()
}

// put notes paths to send.
func (l *link) put(names []string) {
	if len(names) == 0 {
		return
	}
	l.mu.Lock()
	for _, name := range names {
		t := l.todo[name]
		t.put = true
		l.todo[name] = t
	}
	l.mu.Unlock()
	l.rouse()
}

// remove notes paths to delete.
func (l *link) remove(gone map[string]held) {
	l.mu.Lock()
	for name, h := range gone {
		l.todo[name] = task{put: h.again, gone: true, dir: h.dir, onlyIfSent: h.old || !l.passed}
	}
	l.mu.Unlock()
	l.rouse()
}

func (l *link) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run works whenever there is something to do, until ctx ends.
func (l *link) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		}
		for l.waiting() && ctx.Err() == nil {
			if l.step(ctx) != nil {
				l.pause(ctx)
			}
		}
	}
}

// drain does what is to do now, once.
func (l *link) drain(ctx context.Context) error {
	for l.waiting() {
		if err := l.step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (l *link) waiting() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pass || len(l.todo) > 0
}

// step does one transfer, or notes that it failed.
func (l *link) step(ctx context.Context) error {
	free, err := l.slot(ctx)
	if err != nil {
		return err
	}
	defer free()
	l.remote.control, l.remote.empty = controlPath(l.mount.sync.control, l.index), l.mount.sync.empty()
	pass, work := l.take()
	report := Report{Host: l.remote.host, Source: l.mount.Source, Target: l.mount.Target, First: pass}
	began := time.Now()
	if pass {
		err = l.sendAll(ctx, &report)
	} else {
		err = l.sendSome(ctx, work, &report)
	}
	report.Took = time.Since(began)
	l.done(pass, work, err, &report)
	if ctx.Err() == nil {
		l.mount.sync.opts.Report(report)
	}
	return err
}

// take returns what to do now: everything, or the tasks that wait. Deletions come
// before everything is sent, which may need their names.
func (l *link) take() (pass bool, work map[string]task) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = true
	if !l.pass {
		work, l.todo = l.todo, make(map[string]task)
		return false, work
	}
	work = make(map[string]task)
	for name, t := range l.todo {
		if t.gone {
			t.put = false // with everything else
			work[name] = t
			delete(l.todo, name)
		}
	}
	return len(work) == 0, work
}

// slot waits until the link may transfer. A host that failed waits among its
// kind, so that it holds up no other.
func (l *link) slot(ctx context.Context) (free func(), err error) {
	l.mu.Lock()
	slots := l.mount.sync.slots
	if l.retry > 0 {
		slots = l.mount.sync.slow
	}
	l.mu.Unlock()
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// done notes how a transfer ended, and puts back what was not done.
func (l *link) done(pass bool, work map[string]task, err error, report *Report) {
	if IsUnread(err) {
		report.Err, err = err, nil // all else is there, and another try changes nothing
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = false
	if err == nil {
		l.problem, l.retry = "", 0
		if report.Err != nil {
			l.problem = report.Err.Error()
		}
		if pass {
			l.pass, l.passed = false, true
		}
		return
	}
	if !pass {
		l.restore(work)
	}
	l.retry = min(max(2*l.retry, l.mount.sync.opts.Retry), lastRetry)
	l.problem = err.Error()
	var failed *Error
	l.partly = errors.As(err, &failed) && failed.Partly && failed.Kind != DiskFull
	report.Err = err
	if !l.mount.sync.once {
		report.Retry = l.retry
	}
}

// restore puts back tasks below those that came since.
func (l *link) restore(work map[string]task) {
	for name, was := range work {
		now, is := l.todo[name]
		if is && !now.gone {
			was.put = was.put || now.put
		} else if is {
			was = now
		}
		l.todo[name] = was
	}
}

// sendAll sends everything the source has. What is not as it was when it was
// sent last is sent whatever its size and time say.
func (l *link) sendAll(ctx context.Context, report *Report) error {
	have, err := l.record.load()
	if err != nil {
		return err
	}
	l.mu.Lock()
	for name, t := range l.todo { // what is there is sent now
		if t.put && !t.gone {
			delete(l.todo, name)
		}
	}
	l.mu.Unlock()
	all := l.mount.stamps(nil)
	var names, again []string
	for _, s := range all {
		names = append(names, s.name)
		if was, ok := have[s.name]; ok && !s.dir && (was.stamp != s.stamp || s.stamp == 0) {
			again = append(again, s.name)
		}
		delete(have, s.name)
	}
	report.Sent = len(names)
	err = l.send(ctx, names, false)
	if err == nil || IsUnread(err) {
		err = errors.Join(err, l.send(ctx, again, true))
	}
	if err != nil && !IsUnread(err) {
		return err
	}
	for name, s := range have { // gone, and not deleted yet
		all = append(all, stamped{name, s})
	}
	return errors.Join(err, l.record.write(all))
}

// sendSome does what is in work.
func (l *link) sendSome(ctx context.Context, work map[string]task, report *Report) error {
	gone, err := l.goneOf(work)
	if err != nil {
		return err
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(work)) {
		if work[name].put {
			names = append(names, name)
		}
	}
	put := l.mount.stamps(append([]string{}, names...))
	names = names[:0]
	for _, s := range put {
		names = append(names, s.name)
	}
	report.Sent, report.Deleted = len(names), len(gone)
	if err := l.remote.remove(ctx, l.mount.Target, gone); err != nil {
		return err
	}
	err = l.send(ctx, names, true)
	if err != nil && !IsUnread(err) {
		return err
	}
	return errors.Join(err, l.record.add(put, gone))
}

// goneOf returns what is to be deleted: only what this host was sent.
func (l *link) goneOf(work map[string]task) ([]path, error) {
	var gone []path
	var have map[string]sent
	for _, name := range slices.Sorted(maps.Keys(work)) {
		t := work[name]
		if !t.gone {
			continue
		}
		if t.onlyIfSent {
			if have == nil {
				var err error
				if have, err = l.record.load(); err != nil {
					return nil, err
				}
			}
			if _, ok := have[name]; !ok {
				continue
			}
		}
		gone = append(gone, path{name, t.dir})
	}
	return gone, nil
}

// send sends names, or the one file that the source is.
func (l *link) send(ctx context.Context, names []string, again bool) error {
	switch {
	case l.mount.Dir:
		return l.remote.send(ctx, l.mount.Source, l.mount.Target, names, again)
	case len(names) > 0:
		return l.remote.sendFile(ctx, l.mount.Source, l.mount.Target, again)
	}
	return nil
}

// pause waits before the next try, somewhat at random: hosts that came down
// together are not all asked together. Where some paths alone failed, others that
// come are not kept waiting.
func (l *link) pause(ctx context.Context) {
	l.mu.Lock()
	wait := l.retry
	var news <-chan struct{}
	if l.partly {
		news = l.wake
	}
	l.mu.Unlock()
	t := time.NewTimer(wait/2 + rand.N(wait/2+1))
	defer t.Stop()
	select {
	case <-t.C:
	case <-news:
	case <-ctx.Done():
	}
}

func (l *link) status() Status {
	files, skipped := l.mount.known()
	guarded := l.mount.guardedBy()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{Host: l.remote.host, Source: l.mount.Source, Target: l.mount.Target, State: Ready,
		Files: files, Pending: len(l.todo), Skipped: skipped, Reason: l.problem}
	switch {
	case l.retry > 0:
		s.State = Degraded
	case !l.passed:
		s.State = Starting
	case guarded != "":
		s.State, s.Reason = Guarded, guarded
	case l.busy || len(l.todo) > 0:
		s.State = Syncing
	}
	if l.pass {
		s.Pending = max(s.Pending, files)
	}
	return s
}

// IsUnread reports whether err is only that some files cannot be read here.
func IsUnread(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == Unread
}
