package file_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/file"
)

// The test binary is also the other process: with these variables set, it
// does what they say and no tests.
const (
	countIn = "SKYAGENT_TEST_COUNT_IN" // directory: count to increments in the object "counter"
	hangIn  = "SKYAGENT_TEST_HANG_IN"  // directory: begin a Put and never end it
)

const increments = 50

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(countIn) != "":
		exit(count(os.Getenv(countIn)))
	case os.Getenv(hangIn) != "":
		exit(hang(os.Getenv(hangIn)))
	}
	os.Exit(m.Run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func count(dir string) error {
	s, err := file.New(file.Config{Path: dir})
	if err != nil {
		return err
	}
	for n := 0; n < increments; {
		err := increment(s)
		switch {
		case err == nil:
			n++
		case !errors.Is(err, objstore.ErrPrecondition):
			return err
		}
	}
	return nil
}

// increment is read, compare and swap.
func increment(s objstore.Store) error {
	r, info, err := s.Get(context.Background(), "counter", 0, -1, objstore.Cond{})
	if err != nil {
		return err
	}
	b, err := io.ReadAll(r)
	r.Close()
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(b))
	if err != nil {
		return err
	}
	next := strconv.Itoa(n + 1)
	_, err = s.Put(context.Background(), "counter", strings.NewReader(next), int64(len(next)), objstore.PutOptions{Cond: objstore.Cond{If: info.Rev}})
	return err
}

// No increment of four processes is lost.
func TestProcessesCompareAndSwap(t *testing.T) {
	dir := t.TempDir() + "/bucket"
	s := open(t, file.Config{Path: dir})
	put(t, s, "counter", "0")
	var procs []*exec.Cmd
	for range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), countIn+"="+dir)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		procs = append(procs, cmd)
	}
	for _, cmd := range procs {
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := get(t, s, "counter"), strconv.Itoa(4*increments); got != want {
		t.Errorf("counted to %s, want %s", got, want)
	}
}

// stuck is a body that says it is being read and never ends.
type stuck struct{ said bool }

func (s *stuck) Read(p []byte) (int, error) {
	if !s.said {
		s.said = true
		return copy(p, "part"), nil
	}
	fmt.Println("reading")
	select {}
}

func (s *stuck) Seek(int64, int) (int64, error) { return 0, nil }

func hang(dir string) error {
	s, err := file.New(file.Config{Path: dir})
	if err != nil {
		return err
	}
	_, err = s.Put(context.Background(), "never", &stuck{}, 100, objstore.PutOptions{})
	return err
}

// The temporary files of the living stay, those of the dead go.
func TestSweep(t *testing.T) {
	dir := t.TempDir() + "/bucket"
	open(t, file.Config{Path: dir})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), hangIn+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	temps := func() int {
		another, err := file.New(file.Config{Path: dir}) // sweeps at its first write
		if err != nil {
			t.Fatal(err)
		}
		put(t, another, "k", "v")
		found, err := filepath.Glob(dir + "/.skyagent-store/tmp/*/*")
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	if n := temps(); n != 1 {
		t.Errorf("while it is written, %d temporary files", n)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if n := temps(); n != 0 {
		t.Errorf("after its writer's death, %d temporary files", n)
	}
}
