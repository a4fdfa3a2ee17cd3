package syncer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/skyagent/skyagent/manifest"
)

// quickMax is the size in bytes up to which a file is fetched into memory.
const quickMax = 256 << 10

// A placer places files one after the other.
type placer struct {
	*Replica
	shelf *shelf
	buf   []byte // longer than any file so far
	done  *result
}

// quick places a small file where nothing is, in a handful of system calls: the
// first copy of a tree is made of these. It reports false, and has done
// nothing, where the long way must decide.
func (p *placer) quick(ctx context.Context, c manifest.Change, in *folder) bool {
	if c.PartSize > 0 || c.Size > quickMax || !in.open() {
		return false
	}
	if !p.done.wasMade(in.path) { // a look spares a fetch for nothing
		if _, err := in.lstat(c.Path); !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	if _, twin := p.index.Files().Find(c.Hash); twin && c.Size > 0 {
		return false
	}
	file, err := nameless(in)
	if err != nil {
		return false // nothing was fetched for nothing
	}
	defer file.Close()
	content, inline, err := p.content(ctx, c)
	if err != nil {
		p.done.fail(c.Path, fmt.Errorf("fetch %s: %w", c.Path, err))
		return true
	}
	stat, err := placeNew(file, in, c.File, content)
	if err != nil {
		return false
	}
	if inline {
		p.done.inlined()
	} else {
		p.done.fetched(1, c.Size)
	}
	p.done.place(seen(c.File, stat))
	return true
}

// content returns the bytes that c names, verified, and whether they came along
// with the event.
func (p *placer) content(ctx context.Context, c manifest.Change) (content []byte, inline bool, err error) {
	if int64(len(c.Data)) == c.Size && manifest.Sum(c.Data) == c.Hash {
		return c.Data, true, nil
	}
	content, err = p.download(ctx, c)
	return content, false, err
}

func (p *placer) download(ctx context.Context, c manifest.Change) ([]byte, error) {
	if int64(len(p.buf)) <= c.Size { // most files are small: memory that nobody touches is not paid for
		p.buf = make([]byte, max(32<<10, 2*c.Size))
	}
	body, err := p.get(ctx, c.File, 0, -1)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	content := p.buf[:c.Size]
	if _, err := io.ReadFull(body, content); err != nil {
		return nil, err
	}
	if hash := manifest.Sum(content); hash != c.Hash {
		return nil, fmt.Errorf("content has hash %s, the manifest says %s: %w", hash, c.Hash, errMoved)
	}
	// The connection serves again only when the body was read to its end.
	if n, err := body.Read(p.buf[c.Size : c.Size+1]); n != 0 || err != io.EOF {
		return nil, fmt.Errorf("the object is longer than %d bytes: %w", c.Size, errMoved)
	}
	return content, nil
}
