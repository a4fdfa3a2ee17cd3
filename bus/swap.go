package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Names of the buckets of locks.
const (
	LocksBucket  = "skyagent_locks"
	LeasesBucket = "skyagent_leases"

	locksStream  = "KV_" + LocksBucket
	leasesStream = "KV_" + LeasesBucket
)

// errSwapped says that a key is not at the revision that was expected.
var errSwapped = errors.New("changed by somebody else")

func lockSubject(storage, key string) string { return "$KV." + LocksBucket + "." + storage + "." + key }
func leaseSubject(storage, id string) string { return "$KV." + LeasesBucket + "." + storage + "." + id }

// lockConfig is a stream below a KV bucket whose keys last for age, on disk: a
// server that comes back still knows who holds what.
func lockConfig(bucket, description string, age time.Duration) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              "KV_" + bucket,
		Description:       "skyagent: " + description,
		Subjects:          []string{"$KV." + bucket + ".>"},
		Storage:           jetstream.FileStorage,
		MaxMsgsPerSubject: 1,
		MaxAge:            age,
		MaxBytes:          32 << 20,
		Duplicates:        min(age, 2*time.Minute),
		Discard:           jetstream.DiscardNew,
		DenyDelete:        true,
		AllowRollup:       true,
		AllowDirect:       true,
	}
}

// ensureLocks makes the buckets of locks where there are none.
func (c *Conn) ensureLocks(ctx context.Context) error {
	for _, cfg := range []jetstream.StreamConfig{
		lockConfig(LocksBucket, "who holds which lock", lockAge),
		lockConfig(LeasesBucket, "whose locks last", lockTTL),
	} {
		if err := c.createStream(ctx, cfg); err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return err
		}
	}
	return nil
}

// swap writes a key that must be at sequence expected, 0 when there must be
// none, and returns its new sequence. errSwapped says that it is not.
func (c *Conn) swap(ctx context.Context, subject string, value []byte, expected uint64) (uint64, error) {
	m := nats.NewMsg(subject)
	m.Data = value
	m.Header.Set("Nats-Expected-Last-Subject-Sequence", strconv.FormatUint(expected, 10))
	seq, err := c.store(ctx, m)
	if errors.Is(err, nats.ErrNoResponders) {
		if err := c.ensureLocks(ctx); err != nil {
			return 0, err
		}
		seq, err = c.store(ctx, m)
	}
	return seq, err
}

// purge removes a key.
func (c *Conn) purge(ctx context.Context, subject string) error {
	m := nats.NewMsg(subject)
	m.Header.Set("KV-Operation", "PURGE")
	m.Header.Set("Nats-Rollup", "sub")
	_, err := c.store(ctx, m)
	return err
}

// wrongSequence is the server's code for a key that is not as expected.
const wrongSequence = 10071

// store publishes m to a stream and returns its sequence there.
func (c *Conn) store(ctx context.Context, m *nats.Msg) (uint64, error) {
	answer, err := c.request(ctx, m)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", m.Subject, err)
	}
	var ack struct {
		Seq   uint64              `json:"seq"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return 0, fmt.Errorf("write %s: %w", m.Subject, err)
	}
	switch {
	case ack.Error == nil:
		return ack.Seq, nil
	case ack.Error.ErrorCode == wrongSequence:
		return 0, fmt.Errorf("write %s: %w", m.Subject, errSwapped)
	}
	return 0, fmt.Errorf("write %s: %w", m.Subject, ack.Error)
}

// read returns a key's value and sequence; both are zero when there is none. It
// asks the stream's leader: a replica might not know of a lease yet.
func (c *Conn) read(ctx context.Context, stream, subject string) (value []byte, seq uint64, err error) {
	m := nats.NewMsg(c.api + "STREAM.MSG.GET." + stream)
	m.Data, _ = json.Marshal(map[string]string{"last_by_subj": subject})
	answer, err := c.request(ctx, m)
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", subject, err)
	}
	var got struct {
		Message struct {
			Seq     uint64 `json:"seq"`
			Data    []byte `json:"data"`
			Headers []byte `json:"hdrs"`
		} `json:"message"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &got); err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", subject, err)
	}
	switch {
	case got.Error != nil && got.Error.Code == 404:
		return nil, 0, nil
	case got.Error != nil:
		return nil, 0, fmt.Errorf("read %s: %w", subject, got.Error)
	case bytes.Contains(got.Message.Headers, []byte("KV-Operation")):
		return nil, 0, nil // given back
	}
	return got.Message.Data, got.Message.Seq, nil
}

// tryChange applies edit to the record at subject once.
func (l *Locks) tryChange(ctx context.Context, subject string, edit func(*lockRecord) error) error {
	value, seq, err := l.conn.read(ctx, locksStream, subject)
	if err != nil {
		return err
	}
	var r lockRecord
	if len(value) > 0 {
		if err := json.Unmarshal(value, &r); err != nil {
			return fmt.Errorf("record %s: %w", subject, err)
		}
	}
	if err := edit(&r); err != nil {
		return err
	}
	next, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if bytes.Equal(next, value) || seq == 0 && len(r.Holders) == 0 {
		return nil
	}
	_, err = l.conn.swap(ctx, subject, next, seq)
	return err
}
