package mount

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/skyagent/skyagent/objstore"
)

// A heldStore is a bucket whose every answer waits for the script of a model
// test, which says in what order requests are done, and what becomes of them. It
// is what one life of a mount has of the bucket.
type heldStore struct {
	objstore.Store
	judge *judge
	log   *slog.Logger

	mu   sync.Mutex // guards what follows
	held []*request // in the order in which they came
	free bool       // questions are answered at once
	dead bool       // the mount was killed: nothing is done
}

// A request waits for what the script says.
type request struct {
	op   objstore.Op
	key  string
	do   func(context.Context) error
	over chan error
}

// What becomes of a request.
const (
	done    = "ok"      // it is done
	failed  = "failed"  // it is not, as far as one can tell
	lost    = "lost"    // it is done, and the answer does not come
	denied  = "denied"  // the credentials do not suffice
	clashed = "clashed" // something else is written at that moment
)

var errAway = fmt.Errorf("away: %w", objstore.ErrUnreachable)

// hold makes a request and waits for its end.
func (s *heldStore) hold(ctx context.Context, op objstore.Op, key string, do func(context.Context) error) error {
	r := &request{op: op, key: key, do: do, over: make(chan error, 1)}
	s.mu.Lock()
	switch {
	case s.dead:
		s.mu.Unlock()
		return context.Canceled
	case s.free && (op == objstore.OpHead || op == objstore.OpList):
		s.mu.Unlock()
		return do(ctx)
	}
	s.held = append(s.held, r)
	s.mu.Unlock()
	select {
	case err := <-r.over:
		return err
	case <-ctx.Done():
		s.drop(r)
		return &objstore.Error{Op: op, Key: key, Err: ctx.Err()}
	}
}

func (s *heldStore) drop(r *request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, other := range s.held {
		if other == r {
			s.held = append(s.held[:i:i], s.held[i+1:]...)
			return
		}
	}
}

// waiting returns the requests that wait.
func (s *heldStore) waiting() []*request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*request(nil), s.held...)
}

// finish lets r end as how says.
func (s *heldStore) finish(r *request, how string) {
	s.drop(r)
	var err error
	defer func() { s.log.Info("store", "op", r.op, "key", r.key, "how", how, "err", err) }()
	switch how {
	case done, lost:
		err = r.do(context.Background())
		if how == lost && err == nil {
			err = &objstore.Error{Op: r.op, Key: r.key, Err: errAway}
		}
	case denied:
		err = &objstore.Error{Op: r.op, Key: r.key, Err: fs.ErrPermission}
	case clashed:
		err = &objstore.Error{Op: r.op, Key: r.key, Err: objstore.ErrConflict}
	default:
		err = &objstore.Error{Op: r.op, Key: r.key, Err: errAway}
	}
	r.over <- err
}

// setFree has questions answered at once, or wait.
func (s *heldStore) setFree(free bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = free
}

// die does nothing more. What waits is done first if do says so.
func (s *heldStore) die(do bool) {
	for _, r := range s.waiting() {
		if do {
			_ = r.do(context.Background()) // nobody hears of it
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
}

func (s *heldStore) Head(ctx context.Context, key string) (info objstore.Info, err error) {
	err = s.hold(ctx, objstore.OpHead, key, func(ctx context.Context) (err error) {
		info, err = s.Store.Head(ctx, key)
		return err
	})
	return info, err
}

func (s *heldStore) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, opts objstore.PutOptions) (info objstore.Info, err error) {
	content, err := io.ReadAll(body)
	if err != nil {
		return info, err
	}
	err = s.hold(ctx, objstore.OpPut, key, func(ctx context.Context) (err error) {
		was := s.judge.rev(key)
		if _, err = body.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if info, err = s.Store.Put(ctx, key, body, size, opts); err == nil {
			s.judge.put(key, was, info.Rev, string(content), opts)
		}
		return err
	})
	return info, err
}

func (s *heldStore) Copy(ctx context.Context, dst, src string, rev objstore.Rev, opts objstore.PutOptions) (info objstore.Info, err error) {
	standing, issued := s.judge.rev(dst), time.Now()
	err = s.hold(ctx, objstore.OpCopy, dst, func(ctx context.Context) (err error) {
		was := s.judge.rev(dst)
		if info, err = s.Store.Copy(ctx, dst, src, rev, opts); err == nil {
			s.judge.copied(dst, src, was, standing, rev, info.Rev, issued, opts)
		}
		return err
	})
	return info, err
}

func (s *heldStore) Delete(ctx context.Context, keys ...string) error {
	standing, issued := s.judge.rev(keys[0]), time.Now()
	return s.hold(ctx, objstore.OpDelete, keys[0], func(ctx context.Context) error {
		was := s.judge.rev(keys[0])
		err := s.Store.Delete(ctx, keys...)
		if err == nil {
			s.judge.deleted(keys[0], was, standing, issued)
		}
		return err
	})
}

func (s *heldStore) List(ctx context.Context, prefix, after string) iter.Seq2[objstore.Info, error] {
	return func(yield func(objstore.Info, error) bool) {
		var found []objstore.Info
		err := s.hold(ctx, objstore.OpList, prefix, func(ctx context.Context) error {
			for info, err := range s.Store.List(ctx, prefix, after) {
				if err != nil {
					return err
				}
				found = append(found, info)
			}
			return nil
		})
		if err != nil {
			yield(objstore.Info{}, err)
			return
		}
		for _, info := range found {
			if !yield(info, nil) {
				return
			}
		}
	}
}
