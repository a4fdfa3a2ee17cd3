package manifest

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"time"

	"github.com/zeebo/blake3"
)

// PartThreshold is the size in bytes from which a file carries the hash of
// every part, so that a change to it need not move the whole of it.
const PartThreshold = 16 << 20

// A Hash is a BLAKE3 digest of 256 bits.
type Hash [32]byte

// Sum returns the hash of b.
func Sum(b []byte) Hash { return blake3.Sum256(b) }

// ParseHash reads the 64 hexadecimal digits that String writes.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if len(s) != 2*len(h) {
		return Hash{}, fmt.Errorf("hash %q is not %d hexadecimal digits", s, 2*len(h))
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return Hash{}, fmt.Errorf("hash %q: %w", s, err)
	}
	return h, nil
}

// String returns h as 64 hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether h is the zero value, which stands for "no hash".
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText and UnmarshalText make a Hash hexadecimal in JSON.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(b []byte) (err error) {
	*h, err = ParseHash(string(b))
	return err
}

// A File is one regular file or directory of a manifest, or a symlink that a
// mount made, whose content is its target.
type File struct {
	Path Path        `json:"path"`
	Mode fs.FileMode `json:"mode"` // permission bits, and fs.ModeDir or fs.ModeSymlink

	// The rest is zero for a directory.
	Size     int64  `json:"size,omitempty"`      // bytes
	MTime    int64  `json:"mtime_ns,omitempty"`  // when Hash was read, nanoseconds since 1970 UTC
	Hash     Hash   `json:"blake3,omitzero"`     // of the whole content
	Rev      string `json:"rev,omitempty"`       // the store's revision of the object (ETag or generation)
	PartSize int64  `json:"part_size,omitempty"` // bytes; 0 below PartThreshold
	Parts    []Hash `json:"parts,omitempty"`     // hash of every part; the last part may be short

	Xattrs Xattrs `json:"xattrs,omitempty"` // that a mount was given, of a directory too
}

// IsDir reports whether f is a directory.
func (f File) IsDir() bool { return f.Mode.IsDir() }

// IsLink reports whether f is a symlink.
func (f File) IsLink() bool { return f.Mode&fs.ModeSymlink != 0 }

// SameContent reports whether f and g are of one type and hold the same bytes.
func (f File) SameContent(g File) bool {
	return f.IsDir() == g.IsDir() && f.IsLink() == g.IsLink() && f.Size == g.Size && f.Hash == g.Hash
}

// Same reports whether replacing f by g would change nothing that a replica
// shows: neither content nor mode. A different time alone is no change.
func (f File) Same(g File) bool { return f.SameContent(g) && f.Mode == g.Mode }

// ModTime returns MTime as a time.
func (f File) ModTime() time.Time { return time.Unix(0, f.MTime) }
