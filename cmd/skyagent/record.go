package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"github.com/skyagent/skyagent/bus"
)

// An agentRecord is what each part of a running agent leaves in the run
// directory, so that status on the same machine needs no bus to ask it.
type agentRecord struct {
	bus.Presence
	Storage string   `json:"storage"`
	Reason  string   `json:"reason,omitempty"`  // of the state
	Left    []string `json:"left,omitempty"`    // what is skipped or failed, for people
	Metrics string   `json:"metrics,omitempty"` // URL
	Bus     bool     `json:"bus"`               // connected
	Control string   `json:"control,omitempty"` // socket that the part takes requests on

	Roots []rootRecord `json:"roots,omitempty"` // what a watch keeps in step
	Hosts []hostLine   `json:"hosts,omitempty"` // that get files without a bucket
}

// maxLeft bounds how many names a record holds.
const maxLeft = 100

// A recordFile is where one part's record stands. A record is lost with its
// process; one whose process is gone is ignored, and removed by
// whoever reads, with its socket.
type recordFile struct {
	path string
	log  *slog.Logger
	last agentRecord
}

func newRecordFile(run, id string, log *slog.Logger) *recordFile {
	return &recordFile{path: filepath.Join(run, "agents", id+".json"), log: log}
}

// write replaces the record when it changed. It is for people: a disk that
// refuses it is no reason to stop.
func (r *recordFile) write(now agentRecord) {
	if reflect.DeepEqual(now, r.last) {
		return
	}
	r.last = now
	now.Seen = time.Now().UTC()
	if err := writeRecord(r.path, now); err != nil {
		r.log.Debug("record not written", "err", err)
	}
}

func writeRecord(path string, record any) error {
	b, err := json.Marshal(record)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temp := path + ".tmp"
	if err := os.WriteFile(temp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

func (r *recordFile) remove() { os.Remove(r.path) }

// localAgents returns the records of the agents that run on this machine.
func localAgents(run string) []agentRecord {
	paths, _ := filepath.Glob(filepath.Join(run, "agents", "*.json"))
	var records []agentRecord
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var record agentRecord
		if json.Unmarshal(b, &record) != nil {
			continue
		}
		if !processAlive(record.PID) {
			os.Remove(path)
			if record.Control != "" {
				os.Remove(record.Control)
			}
			continue
		}
		records = append(records, record)
	}
	return records
}
