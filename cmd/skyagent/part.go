package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/syncer"
)

// A part is one storage that an agent works on in one way: a source, a replica
// or a mount. Its services end with its main loop; those of the agent go on.
type part struct {
	*agent
	background
	target  target
	store   objstore.Store
	id      string // of the part on this machine, as long as the process runs
	control string // path of the socket that it takes requests on
	ready   atomic.Bool
	onReady func()      // told once it is ready; nil for nobody
	undo    []func()    // what is to be done when the part has ended
	leaving chan string // holds why the part was asked to leave
	done    atomic.Bool // it leaves because its work is done
	asked   atomic.Bool // it was
}

// A loop is the main work of a part.
type loop struct {
	part  *part
	run   func(ctx context.Context) error
	flush func(ctx context.Context) error // sends the last events after run; nil when there are none
	after func(err error)                 // comes last, with how it ended; nil when there is nothing to do
}

// open opens a storage's store and makes it a part of the agent. uploads is
// where unfinished uploads are remembered; "" is nowhere.
func (a *agent) open(ctx context.Context, t target, uploads string) (*part, error) {
	store, err := a.p.openStore(ctx, t, uploads, a.set)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	pt := a.newPart(t, store, partID(len(a.parts)))
	a.parts = append(a.parts, pt)
	return pt, nil
}

// newPart returns a part that nobody asks whether it is ready.
func (a *agent) newPart(t target, store objstore.Store, id string) *part {
	return &part{agent: a, background: newBackground(a.ctx), target: t, store: store, id: id, leaving: make(chan string, 1)}
}

// partID names the n-th part of this process, from 0.
func partID(n int) string {
	if n == 0 {
		return fmt.Sprint(os.Getpid())
	}
	return fmt.Sprintf("%d-%d", os.Getpid(), n)
}

// isOneOfSeveral reports whether the agent has more parts.
func (pt *part) isOneOfSeveral() bool {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	return len(pt.parts) > 1
}

// showProgress draws the part's progress, unless several would draw over one
// another.
func (pt *part) showProgress(ctx context.Context, what string, read func() syncer.Progress) (wait func()) {
	if pt.isOneOfSeveral() {
		return func() {}
	}
	return pt.p.showProgress(ctx, what, read)
}

// run runs l, publishes its last events, and ends the part's services.
func (pt *part) run(ctx context.Context, l loop) error {
	err := pt.runLoop(ctx, l)
	if l.flush != nil {
		last, done := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
		if e := l.flush(last); e != nil && pt.conn.Up() {
			pt.log.Warn("last event not published; workers read the log", "err", e)
		}
		done()
	}
	failed := pt.background.end()
	for _, undo := range pt.undo {
		undo()
	}
	switch {
	case ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)):
		err = nil // Ctrl-C, maybe before it was under way
	case failed != nil && (err == nil || errors.Is(err, context.Canceled)):
		err = failed
	}
	if l.after != nil {
		l.after(err)
	}
	return err
}

// runLoop runs l until it ends, ctx does, a service fails, or the part is asked
// to leave.
func (pt *part) runLoop(ctx context.Context, l loop) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(pt.ctx, func() { cancel(nil) })()
	pt.service("leave", func(services context.Context) error {
		select {
		case <-services.Done():
		case why := <-pt.leaving:
			pt.p.ui.say("%s: %s", pt.target.name, why)
			cancel(errAsked)
		}
		return nil
	})
	err := l.run(ctx)
	if errors.Is(err, context.Canceled) && context.Cause(ctx) == errAsked {
		return nil
	}
	return err
}

// errAsked says that a loop ended because it was asked to.
var errAsked = errors.New("asked to leave")

// leave makes the loop end as Ctrl-C would. why is for people.
func (pt *part) leave(why string) {
	pt.asked.Store(true)
	select {
	case pt.leaving <- why:
	default: // it leaves already
	}
}

// oblige lets others on this machine ask the part, which is about to run; m is
// its mount, if it is one. Call it before report. A part without it runs all
// the same.
func (pt *part) oblige(m obliging) {
	c, err := listenControl(pt.p.places.run, pt, m)
	if err != nil {
		pt.log.Warn("other commands will not reach this one", "err", err)
		return
	}
	pt.control = c.path
	pt.service("control", c.serve)
}

func (pt *part) setReady() {
	pt.ready.Store(true)
	if pt.onReady != nil {
		pt.onReady()
	}
}

// report keeps presence on the bus, and the record on this machine, up to date
// with what look returns.
func (pt *part) report(first bus.Presence, look func(*agentRecord)) {
	reporter := bus.NewReporter(pt.conn, pt.target.token(), first, pt.log)
	pt.service("presence", reporter.Run)
	pt.service("record", func(ctx context.Context) error {
		record := newRecordFile(pt.p.places.run, pt.id, pt.log)
		defer record.remove()
		tick := time.NewTicker(reportTime)
		defer tick.Stop()
		for {
			now := agentRecord{Presence: first, Storage: pt.target.location.String(), Metrics: pt.metricsURL, Bus: pt.conn.Up(), Control: pt.control}
			look(&now)
			record.write(now)
			reporter.Update(func(p *bus.Presence) { *p = now.Presence })
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	})
}

// presence returns what is known of a part before it did anything.
func (pt *part) presence(id, role, mode, path string) bus.Presence {
	return bus.Presence{
		ID: id, Role: role, Mode: mode, Host: hostname(), PID: os.Getpid(), Path: path,
		Source: pt.p.flags.source, State: string(syncer.StateStarting), Started: time.Now().UTC(),
	}
}

// verifier checks events against the vouchers in the bucket.
func (pt *part) verifier() *bus.Verifier {
	lookup := func(ctx context.Context, id string) ([]byte, error) { return syncer.Voucher(ctx, pt.store, id) }
	return bus.NewVerifier(lookup, func(r bus.Reason) { pt.set.Bus().Dropped(string(r)) })
}
