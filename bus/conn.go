package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// requestTimeout bounds every request to the server: one that is not answered
// by then is not going to be.
const requestTimeout = 2 * time.Second

// A Conn is a connection to the bus that is made, and made again, in the
// background. It is safe for many goroutines.
type Conn struct {
	nc  *nats.Conn
	js  jetstream.JetStream
	api string // prefix of JetStream's requests, with the domain
	log *slog.Logger

	mu      sync.Mutex // guards the rest
	changed chan struct{}
	session uint64
	lastErr error
	waiters map[string]map[*waiter]struct{} // by subject
}

// A waiter wants to know when the server forbids its subject and, when it waits
// for an answer, that there will be none since the connection is gone. The
// library tells neither to a request: it would only time out.
type waiter struct {
	tell   func(error)
	answer bool
}

// Connect returns at once, connected or not: a bus that is away holds nothing
// up, and the connection is tried for ever. An error means that the options
// themselves are wrong, a file that cannot be read for instance.
func Connect(o Options) (*Conn, error) {
	c := &Conn{log: orDiscard(o.Log), changed: make(chan struct{}), waiters: map[string]map[*waiter]struct{}{}}
	opts, err := c.natsOptions(o)
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	nc, err := opts.Connect()
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	c.js, c.api, err = jetStream(nc, o.Domain)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("bus: %w", err)
	}
	c.nc = nc // the handlers, which may run already, do not use it
	return c, nil
}

func jetStream(nc *nats.Conn, domain string) (js jetstream.JetStream, api string, err error) {
	if domain == "" {
		js, err = jetstream.New(nc)
		return js, "$JS.API.", err
	}
	js, err = jetstream.NewWithDomain(nc, domain)
	return js, "$JS." + domain + ".API.", err
}

func (c *Conn) natsOptions(o Options) (*nats.Options, error) {
	opts := nats.GetDefaultOptions()
	opts.Servers = o.URLs
	d := &dialer{net: netDialer(o)}
	set := []nats.Option{
		nats.Name(cmp.Or(o.Name, "skyagent")),
		nats.SetCustomDialer(d),
		nats.SkipHostLookup(),              // the dialer does it, with a deadline
		nats.NoCallbacksAfterClientClose(), // our own Close is no news
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // credentials are renewed under running agents
		nats.CustomReconnectDelay(d.delay),
		nats.ReconnectBufSize(-1), // an error now is worth more than a stale hint later
		nats.PingInterval(cmp.Or(o.PingInterval, 10*time.Second)),
		nats.MaxPingsOutstanding(2),
		nats.PermissionErrOnSubscribe(true),
		nats.ConnectHandler(c.connected),
		nats.ReconnectHandler(c.connected),
		nats.DisconnectErrHandler(c.disconnected),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.note(err) }),
		nats.ErrorHandler(c.asyncError),
	}
	way, err := o.way(d)
	if err != nil {
		return nil, err
	}
	if d.dir != "" {
		opts.Servers = []string{"nats://127.0.0.1"} // a name for the pool; never dialled
	}
	set = append(set, way...)
	for _, option := range set {
		if err := option(&opts); err != nil {
			return nil, err
		}
	}
	return &opts, nil
}

// way returns the options of how the server is found and lets us in.
func (o Options) way(d *dialer) (set []nats.Option, err error) {
	if o.InboxPrefix != "" {
		set = append(set, nats.CustomInboxPrefix(o.InboxPrefix))
	}
	if len(o.URLs) > 0 {
		creds, err := o.credentials()
		return append(set, creds...), err
	}
	if o.AddressDir == "" {
		return nil, errors.New("neither a NATS URL nor the directory of a local bus is given")
	}
	d.dir = o.AddressDir
	return append(set, nats.TokenHandler(d.lastToken), nats.IgnoreDiscoveredServers()), nil
}

// Close ends the connection; what was published before is sent first as far as
// the server takes it within a second.
func (c *Conn) Close() {
	if c.Up() {
		_ = c.nc.FlushTimeout(time.Second)
	}
	c.nc.Close()
}

// Up reports whether the bus can be reached now. A connection whose other end
// has vanished without a word counts as up for two to three ping intervals.
func (c *Conn) Up() bool { return c.nc.IsConnected() }

// Changed returns a channel that is closed when the bus next comes or goes.
// Call it before Up, so that no change falls between the two.
func (c *Conn) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// WaitUp waits until the bus can be reached. When ctx ends first, the error
// says why the last attempt came to nothing.
func (c *Conn) WaitUp(ctx context.Context) error {
	for {
		changed := c.Changed()
		if c.Up() {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), c.Err())
		case <-changed:
		}
	}
}

// Err returns why the bus cannot be reached, as far as is known, or nil while
// it can.
func (c *Conn) Err() error {
	if c.Up() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return cmp.Or(c.nc.LastError(), c.lastErr)
}

// sessions counts connections made: it tells that there was a gap even when the
// bus is back before anybody looked.
func (c *Conn) sessions() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

// life counts connections too, in step with what arrives: it is another one
// before anything arrives over the next connection, while sessions is told a
// little later.
func (c *Conn) life() uint64 { return c.nc.Stats().Reconnects }

func (c *Conn) connected(nc *nats.Conn) {
	c.log.Info("bus connected", "url", nc.ConnectedUrlRedacted())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session++
	c.lastErr = nil
	c.announceChange()
}

func (c *Conn) disconnected(_ *nats.Conn, err error) {
	c.log.Warn("bus disconnected", "err", err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastErr = err
	c.announceChange()
	for _, on := range c.waiters {
		for w := range on {
			if w.answer {
				w.tell(nats.ErrDisconnected)
			}
		}
	}
}

// announceChange is called with mu held.
func (c *Conn) announceChange() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// note remembers why an attempt failed; each new reason is logged once.
func (c *Conn) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(err, errNotYet) {
		return
	}
	if c.lastErr == nil || c.lastErr.Error() != err.Error() {
		c.log.Debug("bus not reachable", "err", err)
	}
	c.lastErr = err
}

var quotedSubject = regexp.MustCompile(`to "([^"]+)"`)

// asyncError gets what the server says about no request in particular, and
// tells the waiters of a denied subject.
func (c *Conn) asyncError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		c.log.Warn("bus error", "err", err)
		return
	}
	c.log.Debug("bus denied", "err", err)
	m := quotedSubject.FindStringSubmatch(err.Error())
	if m == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.waiters[m[1]] {
		w.tell(err)
	}
}

// request publishes m to be answered, and returns the answer. A subject that
// the server denies is an error as soon as the server says so.
func (c *Conn) request(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	ctx, end := c.asking(ctx, m.Subject)
	defer end()
	r, err := c.nc.RequestMsgWithContext(ctx, m)
	return r, denied(ctx, err)
}

// asking returns a context for one request on subject.
func (c *Conn) asking(ctx context.Context, subject string) (context.Context, func()) {
	ctx, timeout := context.WithTimeout(ctx, requestTimeout)
	ctx, cancel := context.WithCancelCause(ctx)
	forget := c.wait(subject, &waiter{tell: cancel, answer: true})
	return ctx, func() {
		forget()
		cancel(nil)
		timeout()
	}
}

// wait keeps w informed, whose functions must be quick, until forget is called.
func (c *Conn) wait(subject string, w *waiter) (forget func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiters[subject] == nil {
		c.waiters[subject] = map[*waiter]struct{}{}
	}
	c.waiters[subject][w] = struct{}{}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if delete(c.waiters[subject], w); len(c.waiters[subject]) == 0 {
			delete(c.waiters, subject)
		}
	}
}

// subscribe calls got for every message on subject, over all reconnects. A
// subscription that the server denies is logged and stays silent: hints are
// missing then, and nothing else.
func (c *Conn) subscribe(subject string, got nats.MsgHandler) (end func(), err error) {
	forget := c.wait(subject, &waiter{tell: func(err error) {
		c.log.Warn("bus denies a subscription", "subject", subject, "err", err)
	}})
	sub, err := c.nc.Subscribe(subject, got)
	if err != nil {
		forget()
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	_ = sub.SetPendingLimits(pendingEvents, pendingBytes)
	return func() {
		_ = sub.Unsubscribe()
		forget()
	}, nil
}

// denied returns what a waiter was told in place of the cancellation it caused.
func denied(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if err != nil && (errors.Is(cause, nats.ErrPermissionViolation) || errors.Is(cause, nats.ErrDisconnected)) {
		return cause
	}
	return err
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
