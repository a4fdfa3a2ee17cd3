package servers

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// NATSOptions say how a NATS server runs.
type NATSOptions struct {
	JetStream bool
	Config    string   // the text of a configuration file; address and store are not its business
	Args      []string // more arguments of the command line
}

// A NATSServer is a nats-server of the test's own.
type NATSServer struct {
	URL      string // nats://127.0.0.1:PORT
	StoreDir string // where JetStream keeps its streams, over Stop and Start too

	*process
}

// NATS starts a server of the test's own, which ends with it.
func NATS(t testing.TB, opts NATSOptions) *NATSServer {
	t.Helper()
	path := binary(t, natsServer)
	s := &NATSServer{StoreDir: t.TempDir()}
	args, err := opts.args(t.TempDir(), s.StoreDir)
	if err != nil {
		t.Fatalf("configure nats-server: %v", err)
	}
	s.process = launch(t, func(addr string) *process {
		return &process{
			path: path, addr: addr, ready: greets("INFO "), env: environ(),
			args: append([]string{"--addr", "127.0.0.1", "--port", port(addr)}, args...),
		}
	})
	s.URL = "nats://" + s.addr
	return s
}

func (o NATSOptions) args(dir, store string) ([]string, error) {
	args := []string{"--store_dir", store}
	if o.JetStream {
		args = append(args, "--jetstream")
	}
	if o.Config != "" {
		conf := filepath.Join(dir, "nats.conf")
		if err := os.WriteFile(conf, []byte(o.Config), 0o600); err != nil {
			return nil, err
		}
		args = append(args, "--config", conf)
	}
	return append(args, o.Args...), nil
}

// greets returns what waits for the line that a server begins with.
func greets(prefix string) func(addr string) error {
	return func(addr string) error {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Second))
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil && !strings.HasPrefix(line, prefix) {
			err = fmt.Errorf("greeted by %q", line)
		}
		return err
	}
}
