package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// places are the directories that skyagent keeps things in.
type places struct {
	state   string // keys, indexes, the embedded bus's store
	buckets string // the default file stores, one directory a name
	run     string // the running bus's address, the running agents
}

// findPlaces follows the XDG base directory specification; SKYAGENT_HOME
// moves everything under one root.
func findPlaces() (places, error) {
	if home := os.Getenv("SKYAGENT_HOME"); home != "" {
		home, err := filepath.Abs(home)
		if err != nil {
			return places{}, fmt.Errorf("SKYAGENT_HOME: %w", err)
		}
		return places{
			state:   filepath.Join(home, "state"),
			buckets: filepath.Join(home, "data", "buckets"),
			run:     filepath.Join(home, "run"),
		}, nil
	}
	state, err := xdg("XDG_STATE_HOME", ".local/state")
	if err != nil {
		return places{}, err
	}
	data, err := xdg("XDG_DATA_HOME", ".local/share")
	if err != nil {
		return places{}, err
	}
	p := places{
		state:   filepath.Join(state, "skyagent"),
		buckets: filepath.Join(data, "skyagent", "buckets"),
		run:     filepath.Join(state, "skyagent", "run"),
	}
	if run := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(run) {
		p.run = filepath.Join(run, "skyagent")
	}
	return p, nil
}

func xdg(name, fallback string) (string, error) {
	if dir := os.Getenv(name); filepath.IsAbs(dir) { // the specification says to ignore relative ones
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", withHint(fmt.Errorf("no home directory: %w", err), "set SKYAGENT_HOME or %s", name)
	}
	return filepath.Join(home, filepath.FromSlash(fallback)), nil
}

func (p places) busStore() string { return filepath.Join(p.state, "bus") }

// index returns where the index of a source or replica stands.
func (p places) index(kind, name string) string {
	return filepath.Join(p.state, kind, name, "index")
}
