package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/metrics"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/syncer"
)

const (
	flushTime  = 2 * time.Second        // for the last events, when an agent leaves
	reportTime = 250 * time.Millisecond // between looks at what an agent should report
	busGrace   = 3 * time.Second        // for the bus to answer, before a word about it
)

// An agent is what watch and copy share: the store, the bus, the metrics, and
// the services that run beside the main loop.
type agent struct {
	p      *program
	target target
	log    *slog.Logger
	set    *metrics.Set
	store  objstore.Store
	key    *bus.Key
	conn   *bus.Conn

	metricsURL string
	control    string // path of the socket that a mount takes requests on

	services context.Context // ends after the main loop did
	stop     context.CancelFunc
	group    *errgroup.Group
	endBus   func() // stops the embedded bus, if it is ours, and waits for its end

	mu    sync.Mutex // guards ready
	ready bool
}

// startAgent opens the store and begins to connect to the bus. It fails for
// what would not heal by itself; a bus that is away is none of that.
func (p *program) startAgent(ctx context.Context, t target, uploads string) (*agent, error) {
	a := &agent{p: p, target: t, log: p.logger(), set: metrics.New(buildVersion()), endBus: func() {}}
	var err error
	if a.store, err = p.openStore(ctx, t, uploads, a.set); err != nil {
		return nil, err
	}
	if a.key, err = bus.LoadOrCreateKey(p.places.state); err != nil {
		return nil, err
	}
	opts, err := p.busOptions()
	if err != nil {
		return nil, err
	}
	if a.conn, err = bus.Connect(opts); err != nil {
		return nil, err
	}
	a.services, a.stop = context.WithCancel(context.WithoutCancel(ctx))
	a.group, a.services = errgroup.WithContext(a.services)
	a.service("bus", a.warnWithoutBus)
	if err := a.serveMetrics(); err != nil {
		a.stop()
		a.conn.Close()
		return nil, err
	}
	return a, nil
}

// busOptions returns how to reach the bus: by --nats, by natscli's variables,
// or the embedded one of this machine.
func (p *program) busOptions() (bus.Options, error) {
	opts, err := bus.OptionsFromEnv()
	if err != nil {
		return opts, err
	}
	if p.flags.nats != "" {
		opts.URLs = bus.SplitURLs(p.flags.nats)
	}
	opts.AddressDir = p.places.run
	opts.Name = "skyagent"
	opts.Log = p.logger()
	return opts, nil
}

// embedBus runs the machine's own bus, unless an outside one was named or
// another process runs it.
func (a *agent) embedBus() error {
	opts, err := a.p.busOptions()
	if err != nil || len(opts.URLs) > 0 {
		return err
	}
	// It outlives the services: their last words go through it.
	ctx, stop := context.WithCancel(context.WithoutCancel(a.services))
	failed := make(chan error, 1)
	go func() {
		failed <- bus.Own(ctx, a.p.places.run, bus.ServerOptions{
			StoreDir: a.p.places.busStore(), Log: a.log,
		})
		close(failed)
	}()
	a.service("embedded bus", func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		}
	})
	a.endBus = func() {
		stop()
		for range failed {
		}
	}
	return nil
}

// service runs f until the agent stops. Its failure ends the agent.
func (a *agent) service(name string, f func(context.Context) error) {
	a.group.Go(func() error {
		err := f(a.services)
		if err != nil && a.services.Err() == nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// run runs the main loop, and after it the end of the services: the last
// events are published before the connection goes.
func (a *agent) run(ctx context.Context, loop func(context.Context) error, flush func(context.Context) error) error {
	interrupted := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(a.services, cancel)()
	err := loop(ctx)
	if flush != nil {
		last, done := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
		if e := flush(last); e != nil && a.conn.Up() {
			a.log.Warn("last event not published; workers read the log", "err", e)
		}
		done()
	}
	a.stop()
	failed := a.group.Wait()
	a.conn.Close()
	a.endBus()
	switch {
	case err == nil:
		return failed
	case interrupted.Err() != nil && errors.Is(err, context.Canceled):
		return nil // Ctrl-C before it was under way
	}
	return err
}

// serveMetrics begins to serve metrics and health, if they are wanted.
func (a *agent) serveMetrics() error {
	if a.p.flags.metrics == "off" {
		return nil
	}
	l, err := metrics.Listen(a.p.flags.metrics)
	if err != nil {
		return withHint(err, "choose another address with --metrics, or --metrics off")
	}
	a.metricsURL = fmt.Sprintf("http://%s/metrics", l.Addr())
	switch wanted := portOf(a.p.flags.metrics); {
	case wanted == "0":
		a.p.ui.say("metrics at %s", a.metricsURL)
	case wanted != portOf(l.Addr().String()):
		a.p.ui.say("metrics at %s (%s is taken)", a.metricsURL, a.p.flags.metrics)
	}
	a.service("metrics", func(ctx context.Context) error { return a.set.Serve(ctx, l, a.isReady) })
	a.service("bus gauge", a.gaugeBus)
	return nil
}

// portOf returns the port of an address that was listened on.
func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// warnWithoutBus says once that a bus that was named does not answer: nothing
// else would tell before somebody asks for the status.
func (a *agent) warnWithoutBus(ctx context.Context) error {
	opts, err := a.p.busOptions()
	if err != nil || len(opts.URLs) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, busGrace)
	defer cancel()
	if err := a.conn.WaitUp(ctx); err != nil && a.services.Err() == nil {
		a.p.ui.warn("the bus does not answer, workers poll the log until it does: %v", oneLine(err.Error()))
	}
	return nil
}

// gaugeBus keeps the gauge of the bus true.
func (a *agent) gaugeBus(ctx context.Context) error {
	for {
		changed := a.conn.Changed()
		a.set.Bus().Up(a.conn.Up())
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// oblige lets others on this machine ask m, which is about to run. Call it
// before report. A mount without it is a mount all the same.
func (a *agent) oblige(m obliging) {
	c, err := listenControl(a.p.places.run, a.log)
	if err != nil {
		a.log.Warn("skyagent refresh and skyagent mount flush will not find this mount", "err", err)
		return
	}
	a.control = c.path
	a.service("control", func(ctx context.Context) error { return c.serve(ctx, m) })
}

func (a *agent) setReady() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ready = true
}

func (a *agent) isReady() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ready {
		return errors.New("not in step yet")
	}
	return nil
}

// report keeps presence on the bus, and the record on this machine, up to date
// with what look returns.
func (a *agent) report(first bus.Presence, look func(*agentRecord)) {
	reporter := bus.NewReporter(a.conn, a.target.token(), first, a.log)
	a.service("presence", reporter.Run)
	a.service("record", func(ctx context.Context) error {
		record := newRecordFile(a.p.places.run, a.log)
		defer record.remove()
		tick := time.NewTicker(reportTime)
		defer tick.Stop()
		for {
			now := agentRecord{Presence: first, Storage: a.target.location.String(), Metrics: a.metricsURL, Bus: a.conn.Up(), Control: a.control}
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

// presence returns what is known of an agent before it did anything.
func (a *agent) presence(id, role, mode, path string) bus.Presence {
	return bus.Presence{
		ID: id, Role: role, Mode: mode, Host: hostname(), PID: os.Getpid(), Path: path,
		Source: a.p.flags.source, State: string(syncer.StateStarting), Started: time.Now().UTC(),
	}
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}
