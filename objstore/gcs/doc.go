// Package gcs is a bucket of Google Cloud Storage, reached over HTTP/1.1.
//
// It promises what objstore.Store promises: a write is whole, durable and seen
// by everybody when it returns, and conditions are checked by Google in the
// same step as the write. Wherever a generation is known it goes with the
// request: the source of a Copy, the base of an Assemble, a pinned Get, and
// every Delete, which looks first and then removes that generation only. What
// can carry no generation is a Put or the destination of a Copy that the
// caller wants without a condition.
//
// Order: none between keys; one key's writes are ordered by their generations.
//
// Duplicates: no request is sent twice from here, except the chunks of one
// resumable upload, which name their place in it. Whoever wraps a Store in
// objstore.Retry knows which outcomes are uncertain.
//
// Loss: an upload ends only after its whole body was read and, in an Assemble,
// was found good: an object of up to 256 KiB is sent with its CRC32C once it is
// complete, a larger one in chunks of which the last is held back. What was
// begun and not ended never becomes an object. Reads of whole objects are
// checked against the CRC32C that Google keeps.
//
// Crash: an Assemble that appends to its base uploads the new bytes as an
// object below .skyagent/tmp/ and removes it at its end. A crash between the
// two leaves that object behind; a lifecycle rule that deletes what is older
// than a day below that prefix sweeps it. Resumable uploads that were begun
// vanish by themselves after a week and cost nothing.
//
// A revision is a generation, in decimal.
package gcs
