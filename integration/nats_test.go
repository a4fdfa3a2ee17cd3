package integration_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/servers"
)

// away is how long NATS is gone: longer than any ping, request or reconnect of
// the client, so that every part of it has met the end.
const away = 20 * time.Second

// TestNATSAway stops an outside NATS under a watch and a copy, and starts it
// again, while files change.
func TestNATSAway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	rng := seeded(t)
	server := servers.NATS(t, servers.NATSOptions{JetStream: true})
	e := newEditor(t, r.source, rng)
	for range 20 {
		must(t, e.create())
	}
	watch := r.watch(t, "--nats", server.URL)
	replica := r.copy(t, "--nats", server.URL, "--poll", "2s")
	r.waitState(t, "READY", "READY", "--nats", server.URL)

	server.Stop()
	stopped := time.Now()
	r.waitState(t, "DEGRADED", "DEGRADED", "--nats", server.URL)
	t.Logf("status said DEGRADED %s after NATS stopped", time.Since(stopped).Round(time.Millisecond))
	for time.Since(stopped) < away {
		e.edit()
		time.Sleep(100 * time.Millisecond)
	}
	took := waitSame(t, r.source, r.replica) // by the log alone
	t.Logf("identical %s after the last edit, without NATS (polling every 2 s)", took.Round(time.Millisecond))

	e.edit()
	server.Start(t)
	started := time.Now()
	waitSame(t, r.source, r.replica)
	r.waitState(t, "READY", "READY", "--nats", server.URL)
	t.Logf("identical and READY %s after NATS was back", time.Since(started).Round(time.Millisecond))
	before := metrics(t, replica)["skyagent_bus_delivered_total"]
	for range 20 {
		e.edit()
	}
	took = waitSame(t, r.source, r.replica)
	if after := metrics(t, replica)["skyagent_bus_delivered_total"]; after <= before {
		t.Errorf("no event was delivered after NATS was back")
	}
	t.Logf("identical %s after the last of 20 further edits", took.Round(time.Millisecond))
	stop(t, replica, watch)
}

// TestNATSNever has no NATS at all, only the log.
func TestNATSNever(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const nowhere = "nats://127.0.0.1:1"
	e := newEditor(t, r.source, seeded(t))
	for range 20 {
		must(t, e.create())
	}
	watch := r.watch(t, "--nats", nowhere)
	replica := r.copy(t, "--nats", nowhere, "--poll", "1s")
	var most time.Duration
	for range 5 {
		for range 10 {
			e.edit()
		}
		most = max(most, waitSame(t, r.source, r.replica))
	}
	t.Logf("identical at most %s after the last edit (polling every 1 s ± a quarter)", most.Round(time.Millisecond))
	st := r.waitState(t, "DEGRADED", "DEGRADED", "--nats", nowhere)
	if st.Bus {
		t.Error("status says that the bus is there")
	}
	stop(t, replica, watch)
}

// TestNATSWithoutJetStream has a server that keeps no streams.
func TestNATSWithoutJetStream(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	server := servers.NATS(t, servers.NATSOptions{})
	write(t, filepath.Join(r.source, "a"), "one")
	watch := r.watch(t, "--nats", server.URL)
	replica := r.copy(t, "--nats", server.URL, "--poll", "1m")
	// By event, since the log is looked at once in minutes.
	took := time.Duration(0)
	for _, content := range []string{"two", "three", "four"} {
		write(t, filepath.Join(r.source, "a"), content)
		took = waitSame(t, r.source, r.replica)
	}
	t.Logf("a save was visible after %s", took)
	r.waitState(t, "READY", "READY", "--nats", server.URL)
	stop(t, replica, watch)
}
