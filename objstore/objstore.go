// Package objstore reaches the buckets of object stores through one small
// interface, Store, and names their differences in Caps instead of hiding them.
//
// It promises that a write is durable and whole when it returns (never a
// prefix of the body), that a condition is checked by the store in the same
// step as the write, and that errors are translated to fs.ErrNotExist,
// fs.ErrExist, fs.ErrPermission, ErrPrecondition, ErrThrottled and the others
// below. It does not
// promise order between keys, and a revision is a token for conditions, never
// a checksum. A Store is safe for use by many goroutines.
package objstore

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"time"
)

// Errors that stores return beside those of io/fs. fs.ErrNotExist is a missing
// key or bucket (ErrNoBucket), fs.ErrExist a bucket that is there already,
// fs.ErrPermission wrong or insufficient credentials.
var (
	// ErrPrecondition says that a Cond did not hold: nothing was read or written.
	ErrPrecondition = errors.New("precondition does not hold")
	// ErrThrottled says that the store asked for fewer requests; try later.
	ErrThrottled = errors.New("store asks to slow down")
	// ErrNoBucket says that the bucket itself is missing. It is an
	// fs.ErrNotExist too.
	ErrNoBucket error = noBucket{}
	// ErrUnreachable says that there was no connection to the server. It passes
	// when the network does, but not when it never was there: see Retry.
	ErrUnreachable = errors.New("server cannot be reached")
	// ErrTLS says that the server's certificate cannot be trusted, or that it
	// does not speak TLS. It stays.
	ErrTLS = errors.New("no secure connection")
	// ErrConflict says that something else at the key is in the way: another
	// write, which passes, or what the server cannot hold beside it.
	ErrConflict = errors.New("something is in the way")
	// ErrNotEmpty says that a bucket holds objects and cannot be deleted.
	ErrNotEmpty = errors.New("bucket is not empty")
)

type noBucket struct{}

func (noBucket) Error() string        { return "no such bucket" }
func (noBucket) Is(target error) bool { return target == fs.ErrNotExist }

// A Rev is an object's revision, opaque: an ETag or a generation.
type Rev string

// A Cond limits a request to a state of its key. The zero Cond is no limit.
type Cond struct {
	Absent bool // the key must not exist
	If     Rev  // the object must be at this revision
}

// Info describes an object.
type Info struct {
	Key     string
	Size    int64 // bytes
	Rev     Rev
	ModTime time.Time
	Meta    map[string]string // user metadata, lower-case keys; nil from List unless Caps.ListMeta
}

// PutOptions go with a write.
type PutOptions struct {
	Cond Cond
	Meta map[string]string // user metadata, lower-case keys, at most 2 KiB in all
}

// A Part is a stretch of an object that Assemble makes.
type Part struct {
	Size int64       // bytes
	Body io.ReaderAt // new bytes, read from 0 to Size; nil copies from the base
	Base int64       // offset in the base object of the bytes to copy
}

// Caps says what a store can do.
type Caps struct {
	RangeCopy    bool  // Assemble copies ranges of the base inside the store
	Append       bool  // without RangeCopy: Assemble copies the base when its first part is all of it
	UniformParts bool  // all parts but the last of an Assemble must have one size
	CondCopy     bool  // Copy honours its condition on the destination
	ListMeta     bool  // List returns Meta
	MinPart      int64 // bytes; smallest part that is not the last
	MaxPart      int64 // bytes; largest part, and largest single Put
	MaxParts     int
}

// A Store is one bucket, or the part of it below a prefix; keys are relative
// to that prefix and compare bytewise.
type Store interface {
	// Caps says what the store can do. It never changes.
	Caps() Caps

	// Head describes the object at key.
	Head(ctx context.Context, key string) (Info, error)

	// Get reads n bytes of the object from offset off, or all that follow when
	// n < 0; where the object ends before off, that is none. Cond.If pins the
	// revision. Info describes the whole object. The caller closes the reader.
	Get(ctx context.Context, key string, off, n int64, cond Cond) (io.ReadCloser, Info, error)

	// Put writes an object of size bytes. body is read once for every attempt,
	// from its start; one that ends early is an fs.ErrInvalid. The Info that is
	// returned has Key, Size and Rev.
	Put(ctx context.Context, key string, body io.ReadSeeker, size int64, opts PutOptions) (Info, error)

	// Assemble writes an object from parts, in order. Parts without a Body are
	// copied inside the store from the object at key, which must be at revision
	// base. check is called after all parts were read and before the object
	// becomes visible, and maybe before, never twice at a time; its error
	// abandons the write and is returned. A nil check holds. Parts must pass
	// Caps.CheckParts.
	Assemble(ctx context.Context, key string, base Rev, parts []Part, check func() error, opts PutOptions) (Info, error)

	// Copy makes dst from src inside the store, with opts.Meta and not the
	// source's. src must be at revision rev; it may be dst. An object that is
	// larger than Caps.MaxPart is copied in several steps, and appears at once.
	// Where Caps.CondCopy is false, opts.Cond is checked before, not with, the copy.
	Copy(ctx context.Context, dst, src string, rev Rev, opts PutOptions) (Info, error)

	// List yields the objects whose key begins with prefix and is greater than
	// after, in order of their keys. It ends after the first error.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]

	// Delete removes keys, without a condition; a missing key is no error.
	Delete(ctx context.Context, keys ...string) error

	// CreateBucket makes the bucket. One that is there and ours is fs.ErrExist.
	CreateBucket(ctx context.Context) error
	// BucketExists reports whether the bucket is there and may be read.
	BucketExists(ctx context.Context) (bool, error)
	// DeleteBucket removes the bucket, which must be empty.
	DeleteBucket(ctx context.Context) error
}
