// Package manifest is the vocabulary of skyagent: files and their hashes, the
// changes between two states of a source, the commits that record them in a
// bucket, and the local index that remembers which state was last seen.
//
// A source is a Tree: what is in one directory, or several directories and
// single files, each under a name of its own. Wherever they are on disk, their
// paths are those of one tree.
//
// It promises that a decoded commit, checkpoint or index is exactly what was
// encoded (every one carries its own check), that applying the changes of
// Diff(a, b) to a gives b, and that a path inside a manifest can never name
// anything outside the root it is applied to. It does not talk to a network,
// does not know which store holds a bucket, and starts no goroutine that
// outlives the call that started it.
package manifest
