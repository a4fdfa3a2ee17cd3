// Package s3 is a bucket of Amazon S3, of Cloudflare R2, or of any server that
// speaks the protocol.
//
// It promises what objstore.Store promises as far as the server keeps S3's
// contract: writes are atomic and durable when they return, conditions are
// the server's own (If-Match, If-None-Match). It does not retry: every request
// is sent once, so that whoever wraps it in objstore.Retry knows which
// outcomes are uncertain. Where a server ignores the condition of a copy
// (all but Amazon's, as far as we know), Caps.CondCopy is false and the
// condition is looked at before the copy. What else servers differ in stands in
// one table, in quirks.go.
//
// A revision is an ETag without its quotes. On most servers writing the same
// bytes again gives the same ETag.
package s3
