package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/metrics"
)

const (
	flushTime  = 2 * time.Second        // for the last events, when an agent leaves
	reportTime = 250 * time.Millisecond // between looks at what an agent should report
	busGrace   = 3 * time.Second        // for the bus to answer, before a word about it
)

// An agent is what a process has once: the bus, the metrics, the key that it
// signs with, and the services that run beside the main loops of its parts.
type agent struct {
	background
	p    *program
	log  *slog.Logger
	set  *metrics.Set
	key  *bus.Key
	conn *bus.Conn

	metricsURL string
	endBus     func() // stops the embedded bus, if it is ours, and waits for its end

	mu    sync.Mutex // guards what follows
	parts []*part
	seats []*seat // of a task
}

// startAgent begins to connect to the bus. It fails for what would not heal by
// itself; a bus that is away is none of that.
func (p *program) startAgent(ctx context.Context) (*agent, error) {
	a := &agent{p: p, log: p.logger(), set: metrics.New(buildVersion()), endBus: func() {}}
	var err error
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
	a.background = newBackground(context.WithoutCancel(ctx))
	a.service("bus", a.warnWithoutBus)
	if err := a.serveMetrics(); err != nil {
		a.end()
		return nil, err
	}
	return a, nil
}

// startOn starts an agent that works on one storage.
func (p *program) startOn(ctx context.Context, t target, uploads string) (*part, error) {
	a, err := p.startAgent(ctx)
	if err != nil {
		return nil, err
	}
	pt, err := a.open(ctx, t, uploads)
	if err != nil {
		a.end()
		return nil, err
	}
	return pt, nil
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
	ctx, stop := context.WithCancel(context.WithoutCancel(a.ctx))
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

// run runs the main loops of the agent's parts, and after them the end of the
// services: the last events are published before the connection goes. A loop
// that fails leaves the others alone.
func (a *agent) run(ctx context.Context, loops ...loop) error {
	ended := make([]error, len(loops), len(loops)+1)
	var all sync.WaitGroup
	for i, l := range loops {
		all.Go(func() {
			if ended[i] = l.part.run(ctx, l); ended[i] != nil && len(loops) > 1 {
				a.p.ui.warn("%s is no longer followed: %s", l.part.target.name, oneLine(ended[i].Error()))
			}
		})
	}
	all.Wait()
	failed := a.end()
	if ctx.Err() != nil {
		failed = nil
	}
	return joined(append(ended, failed))
}

// joined returns what went wrong: the error itself where there is but one.
func joined(errs []error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// end ends the services, the connection and the embedded bus, in this order.
func (a *agent) end() error {
	failed := a.background.end()
	a.conn.Close()
	a.endBus()
	return failed
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
	if err := a.conn.WaitUp(ctx); err != nil && a.ctx.Err() == nil {
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

// isReady says that all parts are in step.
func (a *agent) isReady() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, pt := range a.parts {
		if !pt.ready.Load() {
			return errors.New("not in step yet")
		}
	}
	for _, s := range a.seats {
		if err := s.notReady(); err != nil {
			return err
		}
	}
	return nil
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}
