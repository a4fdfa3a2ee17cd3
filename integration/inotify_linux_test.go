package integration_test

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/fsnotify/fsnotify"

	"github.com/skyagent/skyagent/integration/servers"
)

// A said collects the lines that a program prints.
type said struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (s *said) add(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

// has reports whether the words came, each in a line of its own, in that order.
func (s *said) has(words ...string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.lines {
		if len(words) > 0 && line == words[0] {
			words = words[1:]
		}
	}
	return len(words) == 0
}

func (s *said) all() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

// listen starts a program whose lines it collects until the test ends.
func listen(t *testing.T, name string, args ...string) *said {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is not installed", name)
	}
	cmd := exec.Command(name, args...)
	out, in, err := os.Pipe()
	must(t, err)
	cmd.Stdout, cmd.Stderr = in, in
	must(t, cmd.Start())
	in.Close()
	s := &said{}
	var reading sync.WaitGroup
	reading.Go(func() {
		for lines := bufio.NewScanner(io.Reader(out)); lines.Scan(); {
			s.add(lines.Text())
		}
	})
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		reading.Wait()
		out.Close()
	})
	return s
}

// TestMountInotify has real programs on one worker watch what another worker,
// and a watch, do.
func TestMountInotify(t *testing.T) {
	r := newRig(t)
	nats := servers.NATS(t, servers.NATSOptions{})
	write(t, filepath.Join(r.source, "saved/log"), "first\n")
	watch := r.watch(t, "--nats", nats.URL)
	there, _ := r.mount(t, "--nats", nats.URL)
	here, p := r.mount(t, "--nats", nats.URL, "--inotify")
	r.waitMounts(t, 2, nats.URL)

	events := listen(t, "inotifywait", "--monitor", "--recursive", "--format", "%e %w%f", here)
	waitFor(t, "inotifywait", func() bool { return events.has("Watches established.") }, events.all)
	tail := listen(t, "tail", "-n", "+1", "-F", filepath.Join(here, "saved/log"))
	waitFor(t, "tail", func() bool { return tail.has("first") }, tail.all)
	seen := reloads(t, filepath.Join(here, "saved"), "log")
	wait := func(words ...string) {
		t.Helper()
		for i, w := range words {
			name, path, _ := strings.Cut(w, " ")
			words[i] = name + " " + filepath.Join(here, path)
		}
		waitFor(t, strings.Join(words, ", "), func() bool { return events.has(words...) }, events.all)
	}

	write(t, filepath.Join(there, "new"), "one")
	wait("CREATE new", "CLOSE_WRITE,CLOSE new")
	write(t, filepath.Join(there, "new"), "two")
	wait("CREATE new", "CLOSE_WRITE,CLOSE new", "MODIFY new", "CLOSE_WRITE,CLOSE new")
	if got := read(t, filepath.Join(here, "new")); got != "two" {
		t.Errorf("new holds %q", got)
	}
	must(t, os.Rename(filepath.Join(there, "new"), filepath.Join(there, "moved")))
	wait("CREATE moved")
	wait("DELETE new")
	must(t, os.Remove(filepath.Join(there, "moved")))
	wait("DELETE moved")
	must(t, os.Mkdir(filepath.Join(there, "dir"), 0o755))
	wait("CREATE,ISDIR dir")
	must(t, os.Remove(filepath.Join(there, "dir")))
	wait("DELETE,ISDIR dir")

	write(t, filepath.Join(r.source, "saved/log"), "first\nsecond\n")
	waitFor(t, "the reload", func() bool { return seen.has("first|second|") }, seen.all)
	waitFor(t, "tail of the second line", func() bool { return tail.has("first", "second") }, tail.all)
	write(t, filepath.Join(r.source, "committed"), "by a watch")
	wait("CREATE committed", "CLOSE_WRITE,CLOSE committed")
	must(t, os.Remove(filepath.Join(r.source, "committed")))
	wait("DELETE committed")

	if n := metrics(t, p)["skyagent_mount_uploads_total"]; n != 0 {
		t.Errorf("the watched mount made %v uploads", n)
	}
	for path, want := range map[string]bool{"saved/log": true, "new": false, "moved": false, "committed": false} {
		if _, err := os.Stat(r.object(path)); (err == nil) != want || err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("object %s: %v", path, err)
		}
	}
	stop(t, watch)
}

// TestMountInotifyReadOnly wants the events of others' changes in a mount that
// lets nobody change anything.
func TestMountInotifyReadOnly(t *testing.T) {
	r := newRig(t)
	nats := servers.NATS(t, servers.NATSOptions{})
	there, _ := r.mount(t, "--nats", nats.URL)
	here, _ := r.mount(t, "--nats", nats.URL, "--inotify", "--read-only")
	r.waitMounts(t, 2, nats.URL)
	events := listen(t, "inotifywait", "--monitor", "--format", "%e %f", here)
	waitFor(t, "inotifywait", func() bool { return events.has("Watches established.") }, events.all)
	write(t, filepath.Join(there, "f"), "one")
	waitFor(t, "the file", func() bool { return events.has("CREATE f", "CLOSE_WRITE,CLOSE f") }, events.all)
	must(t, os.Remove(filepath.Join(there, "f")))
	waitFor(t, "its end", func() bool { return events.has("DELETE f") }, events.all)
	if err := os.WriteFile(filepath.Join(here, "own"), nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Errorf("a write: %v, want EROFS", err)
	}
}

// reloads watches a directory as a hot reloader does, and says what it reads
// of name upon each event.
func reloads(t *testing.T, dir, name string) *said {
	t.Helper()
	w, err := fsnotify.NewWatcher()
	must(t, err)
	must(t, w.Add(dir))
	s := &said{}
	var reading sync.WaitGroup
	reading.Go(func() {
		for e := range w.Events {
			if filepath.Base(e.Name) != name || !e.Has(fsnotify.Write) && !e.Has(fsnotify.Create) {
				continue
			}
			b, err := os.ReadFile(e.Name)
			if err != nil {
				s.add(err.Error())
				continue
			}
			s.add(strings.ReplaceAll(string(b), "\n", "|"))
		}
	})
	t.Cleanup(func() { w.Close(); reading.Wait() })
	return s
}
