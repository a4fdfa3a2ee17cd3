package file

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/skyagent/skyagent/objstore"
)

// List implements objstore.Store. It holds the names of one directory at every
// level of the path it is at, and reads no directory whose keys are all before
// after or outside prefix.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[objstore.Info, error] {
	return func(yield func(objstore.Info, error) bool) {
		b, err := s.bucket(ctx)
		if err != nil {
			yield(objstore.Info{}, s.fail(objstore.OpList, prefix, err))
			return
		}
		for info, err := range b.list(ctx, prefix, after) {
			if !yield(info, s.fail(objstore.OpList, prefix, err)) || err != nil {
				return
			}
		}
	}
}

// list merges the plain and the odd keys, both in order.
func (b *bucket) list(ctx context.Context, prefix, after string) iter.Seq2[objstore.Info, error] {
	plain := b.plainKeys(ctx, prefix, after)
	if _, err := b.root.Lstat(oddDir); err != nil {
		return b.describe(plain)
	}
	return b.describe(merge(plain, b.oddKeys(ctx, prefix, after)))
}

// describe looks at every key; one that is gone by then is left out.
func (b *bucket) describe(keys iter.Seq2[string, error]) iter.Seq2[objstore.Info, error] {
	return func(yield func(objstore.Info, error) bool) {
		for key, err := range keys {
			var info objstore.Info
			if err == nil {
				info, err = b.info(key)
			}
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

func (b *bucket) info(key string) (objstore.Info, error) {
	f, fi, st, err := b.look(context.Background(), key)
	if err != nil {
		return objstore.Info{}, err
	}
	f.Close()
	return st.info(key, fi), nil
}

// merge yields two ordered sequences as one. A key in both is yielded once.
func merge(a, b iter.Seq2[string, error]) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		next, stop := iter.Pull2(b)
		defer stop()
		other, err, more := next()
		for key, keyErr := range a {
			for more && (err != nil || other < key) {
				if !yield(other, err) || err != nil {
					return
				}
				other, err, more = next()
			}
			if more && other == key {
				other, err, more = next()
			}
			if !yield(key, keyErr) {
				return
			}
		}
		for more && yield(other, err) {
			other, err, more = next()
		}
	}
}

func (b *bucket) plainKeys(ctx context.Context, prefix, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		w := walk{ctx: ctx, prefix: prefix, after: after, yield: yield, skip: hidden}
		w.from(b.root, parentOf(prefix))
	}
}

func (b *bucket) oddKeys(ctx context.Context, prefix, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		root, err := b.root.OpenRoot(oddDir)
		if err != nil {
			if !nothing(err) {
				yield("", err)
			}
			return
		}
		defer root.Close()
		w := walk{ctx: ctx, prefix: oddPrefix(prefix), yield: func(path string, err error) bool {
			if err == nil {
				path, err = oddKey(path)
			}
			return yield(path, err)
		}}
		if after != "" {
			w.after = oddPath(after)
		}
		w.from(root, "")
	}
}

// parentOf returns the directory that all keys with a prefix are in, with its
// slash, or "" when that is the top or no directory can have that name.
func parentOf(prefix string) string {
	dir := prefix[:strings.LastIndexByte(prefix, '/')+1]
	if dir == "" || !plain(strings.TrimSuffix(dir, "/")) {
		return ""
	}
	return dir
}

// A walk yields the paths of regular files in the order of their bytes.
type walk struct {
	ctx           context.Context
	prefix, after string
	skip          string // name at the top that is passed over
	yield         func(string, error) bool
}

// from walks the directory dir, "" or with its slash, of root. It returns
// false when the walk is over.
func (w *walk) from(root *os.Root, dir string) bool {
	if dir == "" {
		return w.dir(root, "")
	}
	return w.enter(root, strings.TrimSuffix(dir, "/"), dir)
}

func (w *walk) stop(err error) bool {
	w.yield("", err)
	return false
}

// dir walks an open directory whose path, with its slash, is path.
func (w *walk) dir(root *os.Root, path string) bool {
	names, err := w.names(root, path)
	if err != nil {
		return w.stop(err)
	}
	for _, name := range names {
		if err := w.ctx.Err(); err != nil {
			return w.stop(err)
		}
		sub, isDir := strings.CutSuffix(name, "/")
		if !isDir {
			if !w.yield(path+name, nil) {
				return false
			}
			continue
		}
		if !w.enter(root, sub, path+name) {
			return false
		}
	}
	return true
}

// enter walks the directory name of root. None there, or no longer, is no error.
func (w *walk) enter(root *os.Root, name, path string) bool {
	sub, err := root.OpenRoot(name)
	if err != nil {
		fi, statErr := root.Lstat(name)
		return statErr != nil || !fi.IsDir() || w.stop(err)
	}
	defer sub.Close()
	return w.dir(sub, path)
}

// names returns what is wanted of a directory, in the order in which it is to
// be walked: a directory stands where its keys do, "a-b" before "a/…".
func (w *walk) names(root *os.Root, path string) ([]string, error) {
	if err := w.ctx.Err(); err != nil {
		return nil, err
	}
	f, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		switch {
		case path == "" && e.Name() == w.skip:
		case e.IsDir() && w.wantsDir(path+e.Name()+"/"):
			names = append(names, e.Name()+"/")
		case e.Type().IsRegular() && w.wants(path+e.Name()):
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

func (w *walk) wants(path string) bool {
	return path > w.after && strings.HasPrefix(path, w.prefix)
}

// wantsDir reports whether a key below path, which ends in a slash, can be wanted.
func (w *walk) wantsDir(path string) bool {
	inPrefix := strings.HasPrefix(path, w.prefix) || strings.HasPrefix(w.prefix, path)
	return inPrefix && (path > w.after || strings.HasPrefix(w.after, path))
}
