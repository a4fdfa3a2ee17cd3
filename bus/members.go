package bus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skyagent/skyagent/manifest"
)

// page is how many presences one request asks for.
const page = 500

// membersAgain is how often a waiting barrier looks at the whole set again:
// expiry sends no message that a subscriber of plain subjects could see.
const membersAgain = 5 * time.Second

// Members returns who is on a storage now, by id. A client that was killed is
// listed for up to a minute. On a server without presence there are none; when
// the bus cannot be reached, that is an error.
func (c *Conn) Members(ctx context.Context, storage string) ([]Presence, error) {
	var all []Presence
	filter := presenceSubject(Token(storage), "*")
	for seq, more := uint64(1), true; more; {
		got, next, err := c.membersFrom(ctx, filter, seq)
		if errors.Is(err, nats.ErrNoResponders) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list members of %s: %w", storage, err)
		}
		all = append(all, got...)
		seq, more = next, next > 0
	}
	slices.SortFunc(all, func(a, b Presence) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// membersFrom reads one page, and returns where the next begins, or 0. A bucket
// holds one message a key, so paging by sequence meets every key; one that is
// written meanwhile moves to the end and is met there.
func (c *Conn) membersFrom(ctx context.Context, filter string, seq uint64) (got []Presence, next uint64, err error) {
	subject := c.api + "DIRECT.GET." + workersStream
	ctx, end := c.asking(ctx, subject)
	defer end()
	inbox := c.nc.NewInbox()
	sub, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, 0, err
	}
	defer sub.Unsubscribe()
	ask := fmt.Sprintf(`{"seq":%d,"next_by_subj":%q,"batch":%d}`, seq, filter, page)
	if err := c.nc.PublishRequest(subject, inbox, []byte(ask)); err != nil {
		return nil, 0, err
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, 0, denied(ctx, err)
		}
		switch m.Header.Get("Status") {
		case "":
			if p, ok := parsePresence(m); ok {
				got = append(got, p)
			}
			if n, _ := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64); n > 0 {
				seq = n
			}
		case "503":
			return nil, 0, nats.ErrNoResponders
		case "204": // the end of the page
			if left, _ := strconv.Atoi(m.Header.Get("Nats-Num-Pending")); left > 0 {
				return got, seq + 1, nil
			}
			return got, 0, nil
		default: // 404: nobody
			return got, 0, nil
		}
	}
}

// parsePresence reads a report; markers of removal and expiry are none.
func parsePresence(m *nats.Msg) (p Presence, ok bool) {
	if m.Header.Get("KV-Operation") != "" || m.Header.Get("Nats-Marker-Reason") != "" {
		return p, false
	}
	return p, json.Unmarshal(m.Data, &p) == nil && p.ID != ""
}

// A Target is a generation that workers are waited for to apply.
type Target struct {
	Source     string
	Epoch      manifest.Epoch
	Generation uint64
}

// A Barrier is how far the workers of a storage are with a target.
type Barrier struct {
	Reached []Presence // applied it, or something later; by id
	Behind  []Presence // did not yet; by id
}

// WaitFor waits until n workers have applied t, or, when n is 0, all who live:
// those present now or appearing meanwhile, without those that leave or fall
// silent for a minute. It returns how far they are, also when ctx ends first.
func (c *Conn) WaitFor(ctx context.Context, storage string, t Target, n int) (Barrier, error) {
	storage = Token(storage)
	heard := make(chan *nats.Msg, page)
	got := func(m *nats.Msg) {
		select {
		case heard <- m:
		default: // the next look at the whole set has it
		}
	}
	for _, subject := range []string{ackSubject(storage, "*"), presenceSubject(storage, "*")} {
		end, err := c.subscribe(subject, got)
		if err != nil {
			return Barrier{}, err
		}
		defer end()
	}
	return c.gather(ctx, storage, t, n, heard)
}

func (c *Conn) gather(ctx context.Context, storage string, t Target, n int, heard <-chan *nats.Msg) (Barrier, error) {
	members := map[string]Presence{}
	look := time.NewTimer(0)
	defer look.Stop()
	looked := false
	for {
		select {
		case <-ctx.Done():
			return barrier(members, t), fmt.Errorf("wait for generation %d: %w", t.Generation, errors.Join(ctx.Err(), c.Err()))
		case m := <-heard:
			hear(members, m)
		case <-look.C:
			look.Reset(membersAgain)
			if all, err := c.Members(ctx, storage); err == nil {
				looked = true
				refresh(members, all)
			} else if ctx.Err() == nil {
				look.Reset(membersAgain / 50)
			}
		}
		b := barrier(members, t)
		if looked && (n > 0 && len(b.Reached) >= n || n <= 0 && len(b.Behind) == 0) {
			return b, nil
		}
	}
}

// refresh makes members the given set, but for acknowledgements that were
// heard before their presence was reported.
func refresh(members map[string]Presence, all []Presence) {
	former := map[string]Presence{}
	for id, p := range members {
		former[id] = p
	}
	clear(members)
	for _, p := range all {
		if f, ok := former[p.ID]; ok && f.Epoch == p.Epoch && f.Source == p.Source && f.Generation > p.Generation {
			p.Generation, p.Partial = f.Generation, f.Partial
		}
		members[p.ID] = p
	}
}

// hear brings an acknowledgement or a report into members.
func hear(members map[string]Presence, m *nats.Msg) {
	id := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	if strings.HasPrefix(m.Subject, "$KV.") {
		if p, ok := parsePresence(m); ok && p.ID == id {
			members[id] = p
		} else {
			delete(members, id)
		}
		return
	}
	var a ack
	p, ok := members[id]
	if ok && json.Unmarshal(m.Data, &a) == nil {
		p.Source, p.Epoch, p.Generation, p.Partial = a.Source, a.Epoch, a.Generation, a.Partial
		members[id] = p
	}
}

func barrier(members map[string]Presence, t Target) (b Barrier) {
	for _, p := range members {
		switch {
		case !p.IsWorker():
		case p.reached(t):
			b.Reached = append(b.Reached, p)
		default:
			b.Behind = append(b.Behind, p)
		}
	}
	byID := func(x, y Presence) int { return cmp.Compare(x.ID, y.ID) }
	slices.SortFunc(b.Reached, byID)
	slices.SortFunc(b.Behind, byID)
	return b
}
