package main

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/skyagent/skyagent/manifest"
)

// A rootRecord is a directory, or a single file, that is kept in step.
type rootRecord struct {
	Path  string `json:"path"`
	File  bool   `json:"file,omitempty"`
	Plain bool   `json:"plain,omitempty"` // it goes to hosts, and not into a bucket
	All   bool   `json:"all,omitempty"`   // no rules ignore anything of it
}

// rootsOf returns what a tree is made of.
func rootsOf(tree manifest.Tree) []rootRecord {
	var roots []rootRecord
	for _, place := range tree.Places() {
		r := rootRecord{Path: place.Dir, All: tree.Rules() == nil}
		if place.Only {
			r.Path, r.File = filepath.Join(place.Dir, place.At), true
		}
		roots = append(roots, r)
	}
	return roots
}

// roots returns where the roots of a source are noted: beside its index.
func (p places) roots(name string) string {
	return filepath.Join(filepath.Dir(p.index("sources", name)), "roots.json")
}

// noteRoots notes, for why, what a storage's source is. A disk that refuses it is
// no reason to stop.
func (p *program) noteRoots(t target, tree manifest.Tree) {
	path := p.places.roots(t.stateName(p.flags.source, tree.String()))
	if err := writeRecord(path, rootsOf(tree)); err != nil {
		p.logger().Debug("roots not noted", "err", err)
	}
}

// notedRoots returns the roots of all sources that were ever kept in step from
// this machine.
func (p *program) notedRoots() []rootRecord {
	paths, _ := filepath.Glob(p.places.roots("*"))
	var all []rootRecord
	for _, path := range paths {
		var roots []rootRecord
		b, err := os.ReadFile(path)
		if err == nil && json.Unmarshal(b, &roots) == nil {
			all = append(all, roots...)
		}
	}
	return all
}

// runningRoots returns what the watches that run on this machine keep in step.
func (p *program) runningRoots() []rootRecord {
	var all []rootRecord
	for _, r := range localAgents(p.places.run) {
		all = append(all, r.Roots...)
	}
	return all
}
