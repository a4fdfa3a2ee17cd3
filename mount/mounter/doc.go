// Package mounter drives other people's mounts: it starts or finds the process
// that mounts a bucket, and tells it of exactly the paths that changed, so that
// they are seen at once and not when a cache has expired.
//
// # Order
//
// Refresh must be called when the change is in the bucket. When it returns nil,
// what is looked up or opened in the mount from then on is what the bucket held
// at the call, or newer; files that are open already are the mounter's affair.
//
// # Duplicates
//
// To refresh twice costs a listing twice and does no harm.
//
// # Loss
//
// A change that nobody tells of is seen when the mounter's own caches expire. A
// mount of gcsfuse or mountpoint-s3 offers no refresh: Refresh says so
// (errors.ErrUnsupported), and their caches are bounded by what they were
// started with.
//
// # Crash
//
// A mounter that ends is started again, and starts with empty caches. One that
// was there before is used and never stopped; the mount point that a dead one
// left is cleared. What a mounter had not uploaded is its own affair.
//
// It writes no credentials anywhere: mounters take them from the environment.
package mounter
