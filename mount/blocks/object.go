package blocks

import (
	"encoding/binary"
	"encoding/hex"
	"path/filepath"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
)

const (
	grain   = 128 << 10 // bytes of a piece: what is fetched, kept and checked at a time
	block   = 8 << 20   // bytes of the largest GET, which ends where a multiple of it does
	small   = 1 << 20   // bytes up to which a content is fetched, proven and kept as a whole
	onePart = 64 << 20  // bytes up to which a content without parts is proven as one
)

// An Object is one content: what the store has at Key in revision Rev, which
// never changes.
type Object struct {
	Key  string
	Rev  objstore.Rev // must be known: it pins every request
	Size int64        // bytes

	// What proves the content, zero when unknown: the hash of the whole, and of
	// every part of PartSize bytes, of which the last may be shorter.
	Hash     manifest.Hash
	PartSize int64
	Parts    []manifest.Hash
}

// An id names a content on disk and in memory, whatever its length and letters.
type id [32]byte

// id returns the name of o's content in a bucket.
func (o Object) id(bucket string) id {
	b := make([]byte, 0, 256)
	for _, s := range []string{bucket, o.Key, string(o.Rev)} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return id(manifest.Sum(binary.AppendVarint(b, o.Size)))
}

// shards are the directories that the contents are spread over, by the first
// byte of their ids.
const shards = 256

// path returns where the content lies below dir.
func (i id) path(dir string) string {
	name := hex.EncodeToString(i[:short])
	return filepath.Join(dir, name[:2], name)
}

// A proof is what the bytes of a content are checked against.
type proof struct {
	part   int64 // bytes of a part, a multiple of grain; of a single one anything
	hashes []manifest.Hash
}

// proof returns nil where nothing proves o's parts. Parts that do not fit its
// size prove nothing.
func (o Object) proof() *proof {
	if o.PartSize > 0 && o.PartSize%grain == 0 && int64(len(o.Parts)) == ceil(o.Size, o.PartSize) {
		return &proof{o.PartSize, o.Parts}
	}
	if !o.Hash.IsZero() && o.Size <= onePart {
		return &proof{max(o.Size, 1), []manifest.Hash{o.Hash}}
	}
	return nil
}

// bounds returns where the part that holds the byte at off begins and ends, in
// a content of size bytes.
func (p *proof) bounds(off, size int64) (from, to int64) {
	from = off / p.part * p.part
	return from, min(from+p.part, size)
}

// ceil returns how many pieces of b bytes hold a bytes.
func ceil(a, b int64) int64 { return (a + b - 1) / b }

// up and down round to a multiple of to, which is a power of two.
func up(n, to int64) int64   { return (n + to - 1) &^ (to - 1) }
func down(n, to int64) int64 { return n &^ (to - 1) }
