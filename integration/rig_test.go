package integration_test

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/s3"
)

// A rig is one machine, a bucket on an S3 server, and two directories.
type rig struct {
	home            *program.Home
	server          *servers.S3Server
	bucket          string
	url             string
	source, replica string
}

func newRig(t *testing.T) *rig {
	r := &rig{server: servers.Versitygw(t), home: program.NewHome(t)}
	r.bucket = r.server.NewBucket(t)
	r.url = "s3://" + r.bucket
	r.home.Env = append(r.home.Env, r.server.Environ()...)
	r.source, r.replica = t.TempDir(), t.TempDir()
	return r
}

// object returns where the server keeps an object.
func (r *rig) object(key string) string {
	return filepath.Join(r.server.Dir, r.bucket, filepath.FromSlash(key))
}

// store opens the bucket, as somebody else with the same rights would.
func (r *rig) store(t *testing.T) objstore.Store {
	t.Helper()
	store, err := s3.New(t.Context(), s3.Config{Bucket: r.bucket, Endpoint: r.server.Endpoint,
		Credentials: credentials.NewStaticCredentialsProvider(r.server.AccessKey, r.server.SecretKey, "")})
	must(t, err)
	return store
}

// watch starts a watch of the source and waits until it is live.
func (r *rig) watch(t *testing.T, args ...string) *program.Process {
	t.Helper()
	return r.live(t, append([]string{"watch", r.source, "--to", r.url}, args...))
}

// copy starts a replica and waits until it is in step.
func (r *rig) copy(t *testing.T, args ...string) *program.Process {
	t.Helper()
	return r.live(t, append([]string{"copy", r.url, r.replica}, args...))
}

func (r *rig) live(t *testing.T, args []string) *program.Process {
	t.Helper()
	if args[0] == "mount" && testing.Short() {
		t.Skip("short runs look for races, and the program that mounts is built without the detector")
	}
	p := r.home.Start(t, append(args, "--metrics", "127.0.0.1:0")...)
	explain(t, p)
	p.Ready()
	return p
}

// explain logs what a process said, should the test fail.
func explain(t *testing.T, p *program.Process) {
	t.Cleanup(func() {
		if t.Failed() {
			lines := p.Lines()
			t.Logf("last lines: %v\n%s", lines[max(0, len(lines)-3):], p.Stderr())
		}
	})
}

// stop asks processes to leave, in order, and wants all of them to end well.
func stop(t *testing.T, processes ...*program.Process) {
	t.Helper()
	for _, p := range processes {
		if code := p.Stop(); code != 0 {
			t.Errorf("exit %d after Ctrl-C\n%s", code, p.Stderr())
		}
	}
}

// A status is what status --json says of one storage.
type status struct {
	Storage string
	Bus     bool
	Sources []struct {
		ID, Host, State, Reason string
		Generation              uint64
		Dirty, Skipped          int
	}
	Workers []struct {
		ID, Host, Mode, Path, State, Reason string
		Generation, Lag                     uint64
	}
}

// status asks for the storage's status.
func (r *rig) status(t *testing.T, args ...string) status {
	t.Helper()
	return statusOf(t, r.home, append([]string{r.url}, args...)...)
}

func statusOf(t *testing.T, home *program.Home, args ...string) status {
	t.Helper()
	result := home.Run(t, append([]string{"status", "--json"}, args...)...)
	var st status
	if err := json.Unmarshal([]byte(result.Stdout), &st); err != nil || result.Code != 0 {
		t.Fatalf("status: exit %d, %v\n%s%s", result.Code, err, result.Stdout, result.Stderr)
	}
	return st
}

// waitState waits until source and worker (either may be "") are in a state.
func (r *rig) waitState(t *testing.T, source, worker string, args ...string) status {
	t.Helper()
	var st status
	waitFor(t, "status "+source+" "+worker, func() bool {
		st = r.status(t, args...)
		return (source == "" || len(st.Sources) == 1 && st.Sources[0].State == source) &&
			(worker == "" || len(st.Workers) == 1 && st.Workers[0].State == worker)
	}, func() any { return st })
	return st
}

// waitFor polls until done; it fails the test, with what describe knows, after
// program.Patience.
func waitFor(t *testing.T, what string, done func() bool, describe ...func() any) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		if time.Since(began) > program.Patience {
			for _, d := range describe {
				t.Logf("%+v", d())
			}
			t.Fatalf("no %s within %s", what, program.Patience)
		}
		<-tick.C
	}
	return time.Since(began)
}

// seeded returns a source of randomness that SKYAGENT_SEED repeats.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SKYAGENT_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SKYAGENT_SEED=%d repeats this run's choices", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// read returns a file's content, "" when it is not there.
func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantWords fails the test unless a command ended with code and said one error
// (or warning) line with every one of words, and a hint where hint is not "".
func wantWords(t *testing.T, r program.Result, code int, hint string, words ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(r.Stderr), "\n")
	want := 1
	if hint != "" {
		want = 2
	}
	if r.Code != code || len(lines) != want {
		t.Errorf("exit %d and %d lines, want %d and %d\n%s", r.Code, len(lines), code, want, r.Stderr)
		return
	}
	for _, w := range words {
		if !strings.Contains(lines[0], w) {
			t.Errorf("no %q in %q", w, lines[0])
		}
	}
	if hint != "" && (!strings.HasPrefix(lines[1], "hint: ") || !strings.Contains(lines[1], hint)) {
		t.Errorf("no hint with %q in %q", hint, lines[1])
	}
}
