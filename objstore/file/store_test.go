package file_test

import (
	"os"
	"testing"

	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/file"
	"github.com/skyagent/skyagent/objstore/storetest"
)

// open returns a store over a new directory that exists.
func open(t testing.TB, c file.Config) *file.Store {
	t.Helper()
	if c.Path == "" {
		c.Path = t.TempDir() + "/bucket"
	}
	s, err := file.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CreateBucket(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) objstore.Store { return open(t, file.Config{}) })
}

func TestStoreWithoutXattr(t *testing.T) {
	storetest.Run(t, func(t *testing.T) objstore.Store { return open(t, file.Config{NoXattr: true}) })
}

// A huge object that somebody else put there: a file with holes.
func TestHuge(t *testing.T) {
	dir := t.TempDir()
	s := open(t, file.Config{Path: dir + "/bucket"})
	f, err := os.Create(dir + "/bucket/huge")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := storetest.WriteHuge(f); err != nil {
		t.Fatal(err)
	}
	storetest.RunHuge(t, s, "huge")
}

func TestModel(t *testing.T) {
	s := open(t, file.Config{})
	storetest.RunModel(t, s, s, storetest.Seed(t), 10_000)
}
