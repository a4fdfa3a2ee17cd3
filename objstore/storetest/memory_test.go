package storetest_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) objstore.Store { return storetest.NewMemory() })
}

func TestMemoryHooks(t *testing.T) {
	lost, refused := errors.New("answer lost"), errors.New("refused")
	m := storetest.NewMemory()
	m.Before = func(op objstore.Op, key string) error {
		if key == "no" {
			return refused
		}
		return nil
	}
	m.After = func(op objstore.Op, key string) error {
		if op == objstore.OpPut {
			return lost
		}
		return nil
	}
	if _, err := m.Put(t.Context(), "no", strings.NewReader("x"), 1, objstore.PutOptions{}); !errors.Is(err, refused) {
		t.Errorf("Before: got %v", err)
	}
	if _, err := m.Put(t.Context(), "yes", strings.NewReader("x"), 1, objstore.PutOptions{}); !errors.Is(err, lost) {
		t.Errorf("After: got %v", err)
	}
	if got := m.Keys(); len(got) != 1 || got[0] != "yes" {
		t.Errorf("applied: %q, want the put whose answer was lost", got)
	}
}

// Every seventh operation fails, half of them when it was done.
func TestMemoryModel(t *testing.T) {
	m := storetest.NewMemory()
	lost := errors.New("answer lost")
	var before, after atomic.Int64
	m.Before = func(objstore.Op, string) error {
		if before.Add(1)%14 == 0 {
			return lost
		}
		return nil
	}
	m.After = func(objstore.Op, string) error {
		if after.Add(1)%15 == 0 {
			return lost
		}
		return nil
	}
	s := objstore.Retry(m, objstore.Policy{Attempts: 50, First: time.Microsecond, Max: time.Microsecond})
	storetest.RunModel(t, s, s, storetest.Seed(t), 10_000)
}
