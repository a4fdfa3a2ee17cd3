package integration_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/objstore"
)

func TestBadSource(t *testing.T) {
	t.Parallel()
	program.Short(t)
	home := program.NewHome(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "x")
	for _, command := range []string{"sync", "watch"} {
		missing := filepath.Join(dir, "missing")
		wantWords(t, home.Run(t, command, missing), 1, "check the path", missing, "no such file or directory")
		file := filepath.Join(dir, "file")
		wantWords(t, home.Run(t, command, file), 1, "name the directory", file, "is a file, not a directory")
	}
}

func TestBadBucket(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	write(t, filepath.Join(r.source, "a"), "x")
	with := func(env ...string) *program.Home {
		h := program.NewHome(t)
		h.Env = append(append(h.Env, r.server.Environ()...), env...)
		return h
	}
	dead := freePort(t)
	cases := []struct {
		name, url string
		home      *program.Home
		hint      string
		words     []string
	}{
		{"wrong secret", r.url, with("AWS_SECRET_ACCESS_KEY=wrong"), "credentials", []string{r.url, "permission denied"}},
		{"wrong key", r.url, with("AWS_ACCESS_KEY_ID=nobody"), "credentials", []string{r.url, "permission denied"}},
		{"no credentials", r.url, with("AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "HOME=/nonexistent"),
			"AWS_PROFILE", []string{r.url, "no AWS credentials found"}},
		{"absent bucket", "s3://not-there", with(), "create the bucket", []string{"s3://not-there", "no such bucket"}},
		{"endpoint down", r.url, with("AWS_ENDPOINT_URL_S3=http://" + dead), "AWS_ENDPOINT_URL_S3", []string{r.url, "connection refused"}},
	}
	for _, c := range cases {
		for _, args := range [][]string{
			{"sync", r.source, "--to", c.url},
			{"watch", r.source, "--to", c.url, "--metrics", "off"},
			{"copy", c.url, r.replica, "--once"},
			{"copy", c.url, r.replica, "--metrics", "off"},
			{"status", c.url},
		} {
			if c.name == "endpoint down" && args[0] != "sync" {
				continue // it may come up: sync is tried for a while, watch and copy wait for it
			}
			t.Run(c.name+"/"+strings.Join(args[:1], " "), func(t *testing.T) {
				wantWords(t, c.home.Run(t, args...), 1, c.hint, c.words...)
			})
		}
	}
}

// freePort returns an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// TestMetricsPortTaken moves on to the next port and says so.
func TestMetricsPortTaken(t *testing.T) {
	t.Parallel()
	program.Short(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	taken := l.Addr().String()
	home := program.NewHome(t)
	source := t.TempDir()
	write(t, filepath.Join(source, "a"), "x")
	watch := home.Start(t, "watch", source, "--metrics", taken)
	url, _ := watch.Ready()["metrics"].(string)
	if url == "" || strings.Contains(url, taken) {
		t.Errorf("metrics at %q", url)
	}
	metrics(t, watch)
	stop(t, watch)
	text := home.StartText(t, "watch", source, "--metrics", taken)
	text.WaitText("metrics at http://", "("+taken+" is taken)")
	stop(t, text)
}

// TestSecondWatch refuses a second watch of the same source, and of the same
// storage, naming the first.
func TestSecondWatch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	write(t, filepath.Join(r.source, "a"), "x")
	watch := r.watch(t)
	second := r.home.Run(t, "watch", r.source, "--to", r.url, "--metrics", "off")
	wantWords(t, second, 1, "stop the other one first", r.source, "another skyagent is at work on it")

	elsewhere := program.NewHome(t)
	elsewhere.Env = append(elsewhere.Env, r.server.Environ()...)
	other := t.TempDir()
	write(t, filepath.Join(other, "b"), "x")
	second = elsewhere.Run(t, "watch", other, "--to", r.url, "--metrics", "off")
	wantWords(t, second, 1, "stop that watch first", "is watched by", r.source)
	write(t, filepath.Join(r.source, "a"), "still watched")
	waitFor(t, "the first watch", func() bool { return read(t, r.object("a")) == "still watched" })
	stop(t, watch)
	// The first has left: the other may take over, if that is said.
	wantWords(t, elsewhere.Run(t, "sync", other, "--to", r.url), 1, "--takeover", "last watched by another agent")
	if read(t, r.object("a")) == "" {
		t.Error("the first source's file is gone")
	}
}

// TestDamage overwrites bytes of the index, of a commit and of a checkpoint.
func TestDamage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 5 {
		write(t, filepath.Join(r.source, "a"), fmt.Sprint("version ", i))
		r.home.MustRun(t, "sync", r.source, "--to", r.url)
	}
	r.home.MustRun(t, "copy", r.url, r.replica, "--once")
	index := glob(t, filepath.Join(r.home.Dir, "state/sources/*/index"))

	damage(t, index)
	write(t, filepath.Join(r.source, "b"), "new")
	result := r.home.Run(t, "sync", r.source, "--to", r.url)
	if result.Code != 0 || !strings.Contains(result.Stderr, "index") || strings.Count(result.Stderr, "\n") != 1 {
		t.Errorf("corrupt index: exit %d\n%s", result.Code, result.Stderr)
	}
	if line := r.home.MustRun(t, "sync", r.source, "--to", r.url); line["uploaded_files"] != 0.0 {
		t.Errorf("after the index was made anew: %v", line)
	}
	damage(t, glob(t, filepath.Join(r.home.Dir, "state/replicas/*/index")))
	result = r.home.Run(t, "copy", r.url, r.replica, "--once")
	if result.Code != 0 || !strings.Contains(result.Stderr, "index") || strings.Count(result.Stderr, "\n") != 1 {
		t.Errorf("corrupt index of a replica: exit %d\n%s", result.Code, result.Stderr)
	}
	waitSame(t, r.source, r.replica)

	// A replica that needs the damaged commit says so, keeps what it has, and
	// heals once the source has written a checkpoint.
	write(t, filepath.Join(r.source, "c"), "newer")
	r.home.MustRun(t, "sync", r.source, "--to", r.url)
	logs := listed(r.object(".skyagent/sources/main/log"))
	last := logs[len(logs)-1]
	r.overwrite(t, ".skyagent/sources/main/log/"+last)
	result = r.home.Run(t, "copy", r.url, r.replica, "--once")
	wantWords(t, result, 1, "skyagent sync", "commit", "corrupt")
	if read(t, filepath.Join(r.replica, "b")) != "new" {
		t.Error("the replica lost what it had")
	}
	result = r.home.Run(t, "sync", r.source, "--to", r.url)
	if result.Code != 0 || !strings.Contains(result.Stderr, "damaged") {
		t.Errorf("sync over a damaged commit: exit %d\n%s", result.Code, result.Stderr)
	}
	result = r.home.Run(t, "copy", r.url, r.replica, "--once")
	if result.Code != 0 {
		t.Errorf("copy over a damaged commit: exit %d\n%s", result.Code, result.Stderr)
	}
	waitSame(t, r.source, r.replica)

	checkpoints := listed(r.object(".skyagent/sources/main/checkpoint"))
	r.overwrite(t, ".skyagent/sources/main/checkpoint/"+checkpoints[len(checkpoints)-1])
	elsewhere := t.TempDir()
	result = r.home.Run(t, "copy", r.url, elsewhere, "--once")
	// Commit and checkpoint of the newest generation are both gone: what is before it is there.
	wantWords(t, result, 3, "skyagent sync", "went only as far as generation", "corrupt")
	if read(t, filepath.Join(elsewhere, "b")) != "new" {
		t.Error("the generation before the damage is not in place")
	}
}

// overwrite damages an object in the bucket, as somebody with the rights might.
func (r *rig) overwrite(t *testing.T, key string) {
	t.Helper()
	b := []byte(read(t, r.object(key)))
	copy(b[len(b)/2-4:], "\x00damage\x00")
	_, err := r.store(t).Put(t.Context(), key, bytes.NewReader(b), int64(len(b)), objstore.PutOptions{})
	must(t, err)
}

// damage overwrites bytes in the middle of a file.
func damage(t *testing.T, path string) {
	t.Helper()
	fi, err := os.Stat(path)
	must(t, err)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte("\x00damage\x00"), fi.Size()/2-4)
	must(t, err)
}

func glob(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	return found[0]
}
