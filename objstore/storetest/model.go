package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/skyagent/skyagent/objstore"
)

const (
	actors   = 4        // goroutines of a model, each with keys of its own
	smallest = 64 << 10 // bytes of a part in a model, unless the store wants more
	bigs     = 3        // assemblies of several parts for every actor
)

// Seed returns $SKYAGENT_SEED, or one by chance.
func Seed(t testing.TB) uint64 {
	t.Helper()
	s := os.Getenv("SKYAGENT_SEED")
	if s == "" {
		return rand.Uint64N(1 << 32)
	}
	seed, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("SKYAGENT_SEED: %v", err)
	}
	return seed
}

// RunModel does ops operations at random on store, from several goroutines,
// and compares every result, and at the end all that the bucket holds, with
// what a model says. store may fail in any way that Retry hides, so it is to be
// wrapped by that; direct is the same bucket without failures. The bucket must
// be empty. What is done depends on seed alone.
func RunModel(t *testing.T, store, direct objstore.Store, seed uint64, ops int) {
	t.Helper()
	t.Logf("SKYAGENT_SEED=%d", seed)
	all := make([]*actor, actors)
	var wg sync.WaitGroup
	for i := range all {
		all[i] = newActor(t, store, direct, seed, uint64(i))
		wg.Go(func() { all[i].run(ops / actors) })
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	want := map[string]bool{}
	for _, a := range all {
		for key := range a.model {
			want[key] = true
		}
		if err := a.compare(); err != nil {
			t.Error(err)
		}
	}
	for info, err := range direct.List(t.Context(), "", "") {
		if err != nil || !want[info.Key] {
			t.Errorf("the bucket holds %q, %v", info.Key, err)
		}
	}
}

// held is what a key holds.
type held struct {
	body string
	meta map[string]string
	rev  objstore.Rev
}

// An actor does operations on keys of its own, one after another, and knows
// what they must do.
type actor struct {
	t      *testing.T
	ctx    context.Context
	store  objstore.Store
	direct objstore.Store
	seed   uint64
	rand   *rand.Rand
	prefix string
	keys   []string
	model  map[string]held
	revs   []objstore.Rev // that ever were
	big    int            // assemblies of several parts to come
	last   []string       // the last operations, for the message
	n      uint64         // bodies made
}

func newActor(t *testing.T, store, direct objstore.Store, seed, i uint64) *actor {
	a := &actor{t: t, ctx: t.Context(), store: store, direct: direct, seed: seed, rand: rand.New(rand.NewPCG(seed, i)),
		prefix: fmt.Sprintf("actor %d/", i), model: map[string]held{}, revs: []objstore.Rev{"0123456789abcdef0123456789abcdef"}, big: bigs}
	for _, name := range []string{"a", "b", "c", "d/1", "d/2", "d/e/3", "d-f", "plus+", "100%", "q?x=1&y", "h#", "ünï 語"} {
		a.keys = append(a.keys, a.prefix+name)
	}
	return a
}

// run does n operations, or as many as end well.
func (a *actor) run(n int) {
	for i := range n {
		if err := a.step(); err != nil {
			a.t.Errorf("SKYAGENT_SEED=%d, %soperation %d: %v\nbefore it:\n\t%s", a.seed, a.prefix, i, err, strings.Join(a.last, "\n\t"))
			return
		}
	}
}

// step does one operation. What it does must not depend on failures.
func (a *actor) step() error {
	switch n := a.rand.IntN(100); {
	case n < 30:
		return a.put()
	case n < 52:
		return a.get()
	case n < 60:
		return a.head()
	case n < 67:
		return a.list()
	case n < 77:
		return a.remove()
	case n < 88:
		return a.copy()
	default:
		return a.assemble()
	}
}

// did takes note of an operation for the message of a later one.
func (a *actor) did(format string, args ...any) {
	a.last = append(a.last, fmt.Sprintf(format, args...))
	if len(a.last) > 12 {
		a.last = a.last[1:]
	}
}

func (a *actor) key() string { return a.keys[a.rand.IntN(len(a.keys))] }

// chance is true n times of 100.
func (a *actor) chance(n int) bool { return a.rand.IntN(100) < n }

// body makes n bytes that no other body has.
func (a *actor) body(n int) string {
	a.n++
	b := make([]byte, n+16)
	binary.BigEndian.PutUint64(b, a.n)
	copy(b[8:], a.prefix)
	for i := 16; i < len(b); i += 8 {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], a.rand.Uint64())
		copy(b[i:], word[:])
	}
	return string(b[:n])
}

// size is up to 64 KiB, most often little, and nothing now and then.
func (a *actor) size() int {
	if a.chance(12) {
		return 0
	}
	return a.rand.IntN(1<<(4+a.rand.IntN(13))) + 1
}

// meta is new for every write. Without a write-id its success cannot always be
// known.
func (a *actor) meta() map[string]string {
	a.n++
	m := map[string]string{}
	if a.chance(80) {
		m["write-id"] = fmt.Sprintf("%s%d", a.prefix, a.n)
	}
	if a.chance(50) {
		m["mtime"] = strconv.FormatUint(a.n, 10)
	}
	return m
}

// stale returns a revision that key is not at.
func (a *actor) stale(key string) objstore.Rev {
	for {
		if rev := a.revs[a.rand.IntN(len(a.revs))]; rev != a.model[key].rev {
			return rev
		}
	}
}

// rev returns the revision of key, or one that it is not at, and which it was.
func (a *actor) rev(key string) (rev objstore.Rev, holds bool) {
	have, there := a.model[key]
	if a.chance(15) || !there {
		return a.stale(key), false
	}
	return have.rev, true
}

// cond returns a condition on key and whether it holds.
func (a *actor) cond(key string) (cond objstore.Cond, holds bool) {
	_, there := a.model[key]
	switch n := a.rand.IntN(100); {
	case n < 50:
		return cond, true
	case n < 70:
		return objstore.Cond{Absent: true}, !there
	}
	rev, holds := a.rev(key)
	return objstore.Cond{If: rev}, holds
}

func (a *actor) put() error {
	key, body, meta := a.key(), a.body(a.size()), a.meta()
	cond, holds := a.cond(key)
	a.did("put %q, %d bytes, %+v, %v", key, len(body), cond, meta)
	info, err := a.store.Put(a.ctx, key, strings.NewReader(body), int64(len(body)), objstore.PutOptions{Cond: cond, Meta: meta})
	return a.wrote(key, held{body: body, meta: meta}, holds, info, err)
}

// wrote compares the answer to a write with what it had to be, and takes the
// write into the model.
func (a *actor) wrote(key string, now held, holds bool, info objstore.Info, err error) error {
	switch {
	case !holds && errors.Is(err, objstore.ErrPrecondition):
		return nil
	case !holds:
		return fmt.Errorf("a condition did not hold: %+v, %w", info, orNone(err))
	case errors.Is(err, objstore.ErrPrecondition) && now.meta["write-id"] == "":
		// Its answer may have been lost. But if it had not been done before,
		// the condition would have held.
		if info, err = a.direct.Head(a.ctx, key); err == nil {
			now.rev = info.Rev
			err = now.is(a.ctx, a.direct, key)
		}
	case err == nil && (info.Key != key || info.Size != int64(len(now.body)) || info.Rev == ""):
		err = fmt.Errorf("the write returned %+v", info)
	}
	if err != nil {
		there, headErr := a.direct.Head(a.ctx, key)
		return fmt.Errorf("%w; the bucket holds %+v, %v", err, there, headErr)
	}
	now.rev = info.Rev
	a.model[key] = now
	a.revs = append(a.revs, now.rev)
	return nil
}

func orNone(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

// is checks that key holds h.
func (h held) is(ctx context.Context, s objstore.Store, key string) error {
	r, info, err := s.Get(ctx, key, 0, -1, objstore.Cond{})
	if err != nil {
		return err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err == nil && string(b) != h.body {
		err = fmt.Errorf("%q holds %s, want %s", key, abridge(string(b)), abridge(h.body))
	}
	if err == nil {
		err = h.describes(info)
	}
	return err
}

// describes checks that info is of h.
func (h held) describes(info objstore.Info) error {
	if info.Size != int64(len(h.body)) || info.Rev != h.rev || info.Meta != nil && !maps.Equal(info.Meta, h.meta) {
		return fmt.Errorf("the store says %+v, want %d bytes, revision %q, %v", info, len(h.body), h.rev, h.meta)
	}
	return nil
}

// missing checks the error for what key, or its revision, is not.
func missing(err error, pinned bool) error {
	if errors.Is(err, fs.ErrNotExist) || pinned && errors.Is(err, objstore.ErrPrecondition) {
		return nil
	}
	return fmt.Errorf("of a missing object: %w", orNone(err))
}

func (a *actor) get() error {
	key := a.key()
	have, there := a.model[key]
	var cond objstore.Cond
	holds := true
	if a.chance(40) {
		cond.If, holds = a.rev(key)
	}
	off, n := a.stretch(int64(len(have.body)))
	a.did("get %q, %d+%d, %+v", key, off, n, cond)
	r, info, err := a.store.Get(a.ctx, key, off, n, cond)
	switch {
	case err == nil:
		defer r.Close()
	case !there:
		return missing(err, cond.If != "")
	case !holds && errors.Is(err, objstore.ErrPrecondition):
		return nil
	}
	if err != nil || !there || !holds {
		return fmt.Errorf("there: %v, condition holds: %v, got %w", there, holds, orNone(err))
	}
	want := have.body[min(off, info.Size):]
	if n >= 0 {
		want = want[:min(n, int64(len(want)))]
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != want {
		return fmt.Errorf("read %s, want %s: %w", abridge(string(b)), abridge(want), orNone(err))
	}
	return have.describes(info)
}

// stretch returns what to read of size bytes: all, a part, too much, nothing.
func (a *actor) stretch(size int64) (off, n int64) {
	if a.chance(40) {
		return 0, -1
	}
	off, n = a.rand.Int64N(size+2), a.rand.Int64N(size+2)
	if a.chance(20) {
		n = -1
	}
	return off, n
}

func (a *actor) head() error {
	key := a.key()
	a.did("head %q", key)
	info, err := a.store.Head(a.ctx, key)
	have, there := a.model[key]
	if !there {
		return missing(err, false)
	}
	if err != nil {
		return err
	}
	return have.describes(info)
}

// list compares a listing of the actor's own keys. One of all keys must hold
// them as well, among those of others.
func (a *actor) list() error {
	prefix, after := []string{a.prefix, a.prefix, a.prefix + "d", a.prefix + "d/", ""}[a.rand.IntN(5)], ""
	if a.chance(40) {
		after = a.key()
	}
	a.did("list %q after %q", prefix, after)
	var want []string
	for _, key := range slices.Sorted(maps.Keys(a.model)) {
		if strings.HasPrefix(key, prefix) && key > after {
			want = append(want, key)
		}
	}
	return a.listed(prefix, after, want)
}

func (a *actor) listed(prefix, after string, want []string) error {
	var got []string
	for info, err := range a.store.List(a.ctx, prefix, after) {
		switch {
		case err != nil:
			return err
		case !strings.HasPrefix(info.Key, a.prefix):
			continue
		}
		got = append(got, info.Key)
		if err := a.model[info.Key].describes(info); err != nil {
			return err
		}
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("listed %q, want %q", got, want)
	}
	return nil
}

func (a *actor) remove() error {
	keys := make([]string, 1+a.rand.IntN(3))
	for i := range keys {
		keys[i] = a.key()
	}
	a.did("delete %q", keys)
	if err := a.store.Delete(a.ctx, keys...); err != nil {
		return err
	}
	for _, key := range keys {
		delete(a.model, key)
	}
	return nil
}

func (a *actor) copy() error {
	dst, src, meta := a.key(), a.key(), a.meta()
	have, there := a.model[src]
	rev, current := a.rev(src)
	cond, holds := a.cond(dst)
	a.did("copy %q from %q at %q (current: %v), %+v, %v", dst, src, rev, current, cond, meta)
	info, err := a.store.Copy(a.ctx, dst, src, rev, objstore.PutOptions{Cond: cond, Meta: meta})
	if !there {
		return missing(err, true)
	}
	return a.wrote(dst, held{body: have.body, meta: meta}, current && holds, info, err)
}

func (a *actor) assemble() error {
	key, meta := a.key(), a.meta()
	cond, holds := a.cond(key)
	parts, body := a.parts(key)
	rev, current := objstore.Rev(""), true
	if objstore.NeedsBase(parts) {
		rev, current = a.rev(key)
	}
	var torn error
	if a.chance(8) {
		torn = errors.New("the source changed")
	}
	a.did("assemble %q of %d parts, %d bytes, base %q (current: %v), %+v, %v, refused: %v", key, len(parts), len(body), rev, current, cond, meta, torn)
	info, err := a.store.Assemble(a.ctx, key, rev, parts, func() error { return torn }, objstore.PutOptions{Cond: cond, Meta: meta})
	if torn != nil && errors.Is(err, torn) {
		return nil
	}
	return a.wrote(key, held{body: body, meta: meta}, current && holds && torn == nil, info, err)
}

// parts plans an assembly of key, and returns the body that it makes.
func (a *actor) parts(key string) ([]objstore.Part, string) {
	old, caps := a.model[key].body, a.store.Caps()
	fresh := func(n int) objstore.Part {
		return objstore.Part{Size: int64(n), Body: strings.NewReader(a.body(n))}
	}
	least := int(max(caps.MinPart, smallest))
	var plan []objstore.Part
	switch n := a.rand.IntN(100); {
	case len(old) >= least && caps.RangeCopy:
		plan = []objstore.Part{{Size: int64(least)}, fresh(least), fresh(1 + a.size())}
	case a.big > 0 && n < 10:
		a.big--
		plan = []objstore.Part{fresh(least), fresh(least), fresh(1 + a.size())}
	case n < 50 && len(old) > 0 && caps.RangeCopy:
		from := a.rand.IntN(len(old))
		plan = []objstore.Part{{Base: int64(from), Size: int64(len(old) - from)}}
	case n < 50 && len(old) > 0 && caps.Append:
		plan = []objstore.Part{{Size: int64(len(old))}, fresh(1 + a.size())}
	case n < 90:
		plan = []objstore.Part{fresh(1 + a.size())}
	}
	if caps.CheckParts(plan, int64(len(old))) != nil {
		plan = []objstore.Part{fresh(1 + a.size())}
	}
	return plan, joined(plan, old)
}

// joined returns the bytes of parts.
func joined(parts []objstore.Part, base string) string {
	var b bytes.Buffer
	for _, p := range parts {
		if p.Body == nil {
			b.WriteString(base[p.Base : p.Base+p.Size])
			continue
		}
		io.Copy(&b, io.NewSectionReader(p.Body, 0, p.Size))
	}
	return b.String()
}

// compare checks past the failures that the bucket holds the model.
func (a *actor) compare() error {
	a.store = a.direct
	for key, h := range a.model {
		if err := h.is(a.ctx, a.direct, key); err != nil {
			return fmt.Errorf("SKYAGENT_SEED=%d, at the end %q: %w", a.seed, key, err)
		}
	}
	return a.listed(a.prefix, "", slices.Sorted(maps.Keys(a.model)))
}
