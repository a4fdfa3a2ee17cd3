package bus

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// readyTimeout is how long a server may take to accept connections; it needs
// milliseconds with an empty store.
const readyTimeout = 10 * time.Second

// ServerOptions say how an embedded server runs.
type ServerOptions struct {
	// Host is the address to listen on; "" is 127.0.0.1. Any other needs TLS
	// and credentials.
	Host string
	// Port is the wished port. When it is taken, or 0, a free one is used.
	Port int
	// StoreDir holds the stream, on a local disk. One server at a time uses it.
	StoreDir string

	// Token opens the server for its own clients. "" makes a random one, unless
	// Users are named.
	Token string
	// Users open the server with their nkeys, each with its own permissions.
	Users []User
	// TLS is the server's side of TLS; nil is none.
	TLS *tls.Config

	// Ready, when not nil, is called by Own once clients may connect.
	Ready func(Address)
	// Log gets the server's warnings and errors; nil discards them.
	Log *slog.Logger
}

// A User may connect with an nkey and do what its permissions say.
type User struct {
	Public      string // public nkey
	Permissions Permissions
}

// A Server is an embedded NATS server with JetStream. Every publish it
// acknowledged is on the disk: a power cut loses nothing that was promised, and
// since events reach workers before they are stored, that costs them no time.
type Server struct {
	opts ServerOptions
	log  *slog.Logger
}

// NewServer checks the options; it opens nothing.
func NewServer(o ServerOptions) (*Server, error) {
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.StoreDir == "" {
		return nil, errors.New("bus server: no store directory is given")
	}
	if !loopback(o.Host) && (o.TLS == nil || o.Token == "" && len(o.Users) == 0) {
		return nil, fmt.Errorf("bus server: refuse to listen on %s without both TLS and credentials", o.Host)
	}
	if o.Token == "" && len(o.Users) == 0 {
		o.Token = rand.Text() // a new one for every server: a dead one's token opens nothing
	}
	return &Server{opts: o, log: orDiscard(o.Log)}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Run serves until ctx ends, and returns when everything is closed. ready, when
// not nil, is called once clients may connect; its error stops the server.
func (s *Server) Run(ctx context.Context, ready func(Address) error) error {
	lock, err := tryLockFile(filepath.Join(s.opts.StoreDir, "store.lock"))
	if err != nil {
		return fmt.Errorf("bus server: %w", err)
	}
	if lock == nil {
		return fmt.Errorf("bus server: store %s is in use by another server", s.opts.StoreDir)
	}
	defer lock.release()
	ns, err := s.start()
	if err != nil {
		return fmt.Errorf("bus server: %w", err)
	}
	defer stop(ns)
	if ready != nil {
		if err := ready(s.address(ns)); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

func (s *Server) start() (*server.Server, error) {
	ns, err := server.NewServer(s.natsOptions(freePort(s.opts.Host, s.opts.Port)))
	if err != nil {
		return nil, err
	}
	ns.SetLoggerV2(serverLog{s.log}, false, false, false)
	ns.Start()
	if !ns.ReadyForConnections(readyTimeout) {
		stop(ns)
		return nil, fmt.Errorf("not ready after %v", readyTimeout)
	}
	return ns, nil
}

func stop(ns *server.Server) {
	ns.Shutdown()
	ns.WaitForShutdown()
}

func (s *Server) natsOptions(port int) *server.Options {
	o := &server.Options{
		ServerName: "skyagent",
		Host:       s.opts.Host,
		Port:       port,
		NoSigs:     true,

		JetStream:              true,
		DisableJetStreamBanner: true,
		StoreDir:               s.opts.StoreDir,
		SyncAlways:             true,
		JetStreamMaxMemory:     64 << 20, // presence: 1,000 workers are under 1 MiB
		JetStreamMaxStore:      1 << 30,  // the stream takes at most 256 MiB of it

		TLS:       s.opts.TLS != nil,
		TLSConfig: s.opts.TLS,
	}
	for _, u := range s.opts.Users {
		o.Nkeys = append(o.Nkeys, &server.NkeyUser{Nkey: u.Public, Permissions: u.Permissions.server()})
	}
	if s.opts.Token != "" {
		o.Authorization = s.opts.Token
	}
	return o
}

func (s *Server) address(ns *server.Server) Address {
	scheme := "nats"
	if s.opts.TLS != nil {
		scheme = "tls"
	}
	host := net.JoinHostPort(s.opts.Host, strconv.Itoa(ns.Addr().(*net.TCPAddr).Port))
	return Address{URL: scheme + "://" + host, Token: s.opts.Token, PID: os.Getpid()}
}

// freePort returns port when it can be listened on, otherwise the value that
// makes the server choose.
func freePort(host string, port int) int {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if port <= 0 || err != nil {
		if err == nil {
			l.Close()
		}
		return server.RANDOM_PORT
	}
	l.Close()
	return port
}

func orDiscard(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

// serverLog passes what the server says to slog. Its notices are for nobody
// who did not ask, and its Fatalf must not end our process.
type serverLog struct{ log *slog.Logger }

func (l serverLog) say(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "nats server", "text", fmt.Sprintf(format, v...))
	}
}

func (l serverLog) Noticef(format string, v ...any) { l.say(slog.LevelDebug, format, v) }
func (l serverLog) Debugf(format string, v ...any)  { l.say(slog.LevelDebug, format, v) }
func (l serverLog) Tracef(format string, v ...any)  { l.say(slog.LevelDebug, format, v) }
func (l serverLog) Warnf(format string, v ...any)   { l.say(slog.LevelWarn, format, v) }
func (l serverLog) Errorf(format string, v ...any)  { l.say(slog.LevelError, format, v) }
func (l serverLog) Fatalf(format string, v ...any)  { l.say(slog.LevelError, format, v) }
