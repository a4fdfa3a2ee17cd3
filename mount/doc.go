// Package mount shows a storage as a FUSE file system whose workers see each
// other's writes at once. This page is what it promises; the reasons are in
// docs/design.md, section 9.
//
// # Order
//
// A close that returned is durable in the bucket and announced: whoever opens
// the file afterwards, on any mount that is on the same bus, reads its bytes or
// newer ones. An open asks its bus for everything that was announced before
// (a fence), so this holds without a wait anywhere else. Operations on names
// (create, unlink, mkdir, rename) take effect on the mount at once, reach the
// bucket in the background, in order for every path and after what it depends
// on, and are waited for by an fsync of the directory, by Flush and by unmount.
//
// # Duplicates
//
// Announcements may come twice or late: each names the revision that it
// replaced, and what does not lead on from what the mount has is looked up in
// the bucket.
//
// # Loss
//
// A bus that says nothing for three seconds counts as lost: opens then ask the
// store, and what the kernel was told is good for one second. When it is back,
// what was missed is read from the notes in the bucket. What strangers write
// without a word is seen by the next reconciliation, or at once by Refresh.
//
// # Conflict
//
// A write goes over the revision that was opened and no other. When somebody
// else was faster, the close fails with ESTALE and the bytes are kept beside.
//
// # Crash
//
// What close or fsync returned for is in the bucket. With write-back it is in
// the journal instead, and goes on from there at the next start. Names that
// had not reached the bucket go on from the journal too.
package mount
