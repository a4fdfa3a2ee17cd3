// Package syncer keeps a bucket in step with a directory (Source: push) and a
// directory in step with a bucket (Replica: pull).
//
// Order. A commit is written after every object that it names, an event after
// its commit, the deletion of an object after the commit that drops it. Work
// on one path happens one step at a time; different paths overlap freely. A
// replica applies generations in order, and may apply several as one.
//
// Duplicates. Everything may be told twice: a settled path, an event, a
// commit whose answer was lost. A file whose bytes are already in the bucket
// is not uploaded again, and a generation that is in place is ignored.
//
// Loss. Batches and events are hints. What a source misses is found by its
// next scan; what a replica misses is found in the log, by polling when there
// is no other word.
//
// Crash. Uploaded objects without a commit are found again by their hash and
// used. A replica's files appear by rename after their hash was verified, so a
// final name holds the old version or the new one.
//
// Places. A source may be made of several directories and single files, each
// under a name of its own. A directory of it that is not there guards all of the
// source; a single file that is gone is a deletion.
//
// Restart. A source compares its tree with its index by stat alone, a replica
// its directory. An index that is lost or damaged is made anew from the log
// and by hashing the directory; nothing is transferred again for that.
package syncer
