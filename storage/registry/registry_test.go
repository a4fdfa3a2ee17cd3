package registry_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skyagent/skyagent/storage"
	"github.com/skyagent/skyagent/storage/registry"
)

// TestMain makes the test's binary a process that works with a registry, when
// it is told to: "add PREFIX" adds PREFIX-0, PREFIX-1 and so on, and says each
// when it stands.
func TestMain(m *testing.M) {
	prefix, ok := os.LookupEnv("REGISTRY_TEST_ADD")
	if !ok {
		os.Exit(m.Run())
	}
	if err := adds(os.Getenv("REGISTRY_TEST_PATH"), prefix, os.Getenv("REGISTRY_TEST_COUNT")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func adds(path, prefix, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	r, err := registry.Open(context.Background(), path)
	if err != nil {
		return err
	}
	defer r.Close()
	for i := range n {
		rec := record(prefix + "-" + strconv.Itoa(i))
		if err := r.Add(context.Background(), rec); err != nil {
			return err
		}
		if err := r.SetState(context.Background(), rec.Name, registry.Ready); err != nil {
			return err
		}
		fmt.Println(rec.Name)
	}
	return nil
}

func record(name string) registry.Record {
	return registry.Record{Name: name, Store: storage.S3, URL: "s3://" + name, Created: now, Used: now,
		Command: "skyagent watch ~/x", State: registry.Init, Persistent: true}
}

func child(path, prefix string, count int) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "REGISTRY_TEST_ADD="+prefix, "REGISTRY_TEST_PATH="+path, "REGISTRY_TEST_COUNT="+strconv.Itoa(count))
	cmd.Stderr = os.Stderr
	return cmd
}

func open(t *testing.T, path string) *registry.Registry {
	t.Helper()
	r, err := registry.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestRegistry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state ?#%", "registry.db")
	r := open(t, path)
	ctx := t.Context()
	rec := record("bkt")
	if err := r.Add(ctx, rec); err != nil {
		t.Fatal(err)
	}
	if err := r.Add(ctx, rec); !errors.Is(err, fs.ErrExist) || errors.Is(err, registry.ErrDeleting) {
		t.Errorf("got %v", err)
	}
	if err := r.Use(ctx, "bkt", "skyagent sync -f task.yaml", false, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	rec.Command, rec.Persistent, rec.Used = "skyagent sync -f task.yaml", false, now.Add(time.Hour)
	for _, state := range registry.States[:7] {
		if err := r.SetState(ctx, "bkt", state); err != nil {
			t.Fatal(err)
		}
		rec.State = state
		again := open(t, path) // a restart finds the same
		if got, err := again.Get(ctx, "bkt"); err != nil || !same(got, rec) {
			t.Errorf("got %+v, %v, want %+v", got, err, rec)
		}
	}
	if err := r.SetState(ctx, "bkt", "PONDERING"); err == nil {
		t.Error("any state is taken")
	}
	if err := r.Add(ctx, registry.Record{Name: "x"}); err == nil {
		t.Error("any state is taken")
	}
	if all, err := r.List(ctx); err != nil || len(all) != 1 || !same(all[0], rec) {
		t.Errorf("got %v, %v", all, err)
	}
	if err := r.Remove(ctx, "bkt"); err != nil {
		t.Fatal(err)
	}
	_, err := r.Get(ctx, "bkt")
	for _, err := range []error{err, r.Remove(ctx, "bkt"), r.SetState(ctx, "bkt", registry.Ready), r.Use(ctx, "bkt", "", true, now)} {
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "bkt") {
			t.Errorf("got %v", err)
		}
	}
}

func same(a, b registry.Record) bool {
	ok := a.Created.Equal(b.Created) && a.Used.Equal(b.Used)
	a.Created, a.Used, b.Created, b.Used = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	return ok && a == b
}

// What is being deleted stays so until it is gone.
func TestDeleting(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "registry.db"))
	ctx := t.Context()
	if err := errors.Join(r.Add(ctx, record("bkt")), r.SetState(ctx, "bkt", registry.Deleting), r.SetState(ctx, "bkt", registry.Deleting)); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{r.SetState(ctx, "bkt", registry.Syncing), r.Use(ctx, "bkt", "x", true, now), r.Add(ctx, record("bkt"))} {
		if !errors.Is(err, registry.ErrDeleting) {
			t.Errorf("got %v", err)
		}
	}
	if got, err := r.Get(ctx, "bkt"); err != nil || got.State != registry.Deleting {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := errors.Join(r.Remove(ctx, "bkt"), r.Add(ctx, record("bkt"))); err != nil {
		t.Fatal(err)
	}
}

// Processes that begin at the same time on a registry that is not there yet
// lose nothing of one another's.
func TestProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	const processes, each = 4, 10
	var group sync.WaitGroup
	for i := range processes {
		group.Go(func() {
			if err := child(path, "p"+strconv.Itoa(i), each).Run(); err != nil {
				t.Errorf("process %d: %v", i, err)
			}
		})
	}
	group.Wait()
	all, err := open(t, path).List(t.Context())
	if err != nil || len(all) != processes*each {
		t.Fatalf("got %d storages, %v", len(all), err)
	}
	for _, rec := range all {
		if rec.State != registry.Ready {
			t.Errorf("got %+v", rec)
		}
	}
}

// A process that is killed leaves what it said, and a sound database.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	said := make(map[string]bool)
	for round := range 5 {
		cmd := child(path, "r"+strconv.Itoa(round), 100000)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for i := 0; i < 3+round && lines.Scan(); i++ {
			said[lines.Text()] = true
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			said[lines.Text()] = true
		}
		_ = cmd.Wait() // it was killed
		r := open(t, path)
		for name := range said {
			if rec, err := r.Get(t.Context(), name); err != nil || rec.State != registry.Ready {
				t.Errorf("%s: got %+v, %v", name, rec, err)
			}
		}
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("got %q, %v", verdict, err)
	}
}

// A registry of a newer skyagent is left alone.
func TestNewer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	open(t, path).Close()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), "PRAGMA user_version = 2"); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), "newer skyagent") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("this is no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Open(t.Context(), path); err == nil {
		t.Error("anything is taken for a registry")
	}
}
