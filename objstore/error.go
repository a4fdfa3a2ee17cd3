package objstore

import "time"

// An Op names an operation of a Store, in errors, hooks and metrics.
type Op string

// Ops are all operations there are.
const (
	OpHead         Op = "head"
	OpGet          Op = "get"
	OpPut          Op = "put"
	OpAssemble     Op = "assemble"
	OpCopy         Op = "copy"
	OpList         Op = "list"
	OpDelete       Op = "delete"
	OpCreateBucket Op = "create_bucket"
	OpBucketExists Op = "bucket_exists"
	OpDeleteBucket Op = "delete_bucket"
)

// An Error is what every store returns: it names the operation, the bucket and
// the key once, so that callers need not.
type Error struct {
	Op     Op
	Bucket Location
	Key    string // relative to the location; "" when the bucket is meant
	Err    error
}

// Error reads like "put s3://models/team-a/x.bin: permission denied".
func (e *Error) Error() string {
	where := e.Bucket.URL()
	if e.Key != "" {
		where += "/" + e.Key
	}
	return string(e.Op) + " " + where + ": " + e.Err.Error()
}

// Unwrap returns the cause, one of the package's names where there is one.
func (e *Error) Unwrap() error { return e.Err }

// A Throttled is an ErrThrottled that says how long to wait.
type Throttled struct {
	After time.Duration
	Err   error
}

// Error is that of the cause.
func (e *Throttled) Error() string { return e.Err.Error() }

// Unwrap returns the cause and ErrThrottled.
func (e *Throttled) Unwrap() []error { return []error{ErrThrottled, e.Err} }
