// Package watcher watches a source directory and says, by event and within
// milliseconds, which of its paths changed and are safe to read. It does not
// say what changed, reads no file's content and decides no deletion: a Batch
// says where to look, never what to believe.
//
// What to look at. A path stands for itself: the file, the directory or nothing
// that is there now. A path that is a directory stands also for the names
// directly in it: those that the reader knows and that are gone, went when the
// directory was replaced by another one of its name. A path where no directory
// is any more stands for all that the reader knows below it. What is below a
// symbolic link is not in the source, so a reader must not look through one.
//
// Order. None. The paths of a Batch are a set, and two Batches follow the
// order in which paths settled, not the order in which they changed. A rename
// shows the new name first, because deletions wait twice as long.
//
// Duplicates. A path is in a Batch at most once, and in another one whenever it
// may have changed again. A path that did not really change may be named too.
//
// Loss. What happens below a watched directory is named by a Batch, or a Batch
// has a Rescan that covers it: queue overflow, a backend's error, exhausted
// watches, a source that went away. What no event tells (a store through a
// shared memory map, a write through a hard link from outside the source,
// another machine's write to a network file system) is found by the Rescan
// "interval": every ten minutes, every ten seconds on a network file system. A
// file that someone holds open for writing is named every ten seconds and once
// more when it has been closed, which covers most memory maps.
//
// Crash and restart. Nothing is kept on disk. The first Batch of every Run has
// the Rescan "start" and comes only once every directory is watched, so what
// changes after the reader begins its scan is named by a later Batch.
//
// The rule by which a path settles is written at settler. A file is asked
// whether somebody writes it by taking a read lease for some microseconds. A
// program that opens the file for writing in just that moment waits those
// microseconds, or gets EWOULDBLOCK when it opened with O_NONBLOCK; the kernel
// sends us SIGIO then, which the Go runtime ignores unless the program asked
// for it with signal.Notify.
//
// Ignored directories, by Options.Ignore, are not watched: what happens in them
// is not named. When a rule file has settled, the directories that are ignored
// from then on are let go, those that are not any more are watched, and a Rescan
// "rules" follows. What git begins or ceases to track, which is looked at every
// second, is a Rescan "tracked". Of rules outside of the source (core.excludesFile,
// those above it in a work tree) the next Rescan learns.
//
// Several places. A Group watches a source that is made of several directories
// and single files, each under a name of its own, with the same promises. For a
// single file the directory that holds it is watched, and only its name counts.
//
// Limits. Directories are watched, files are not. Symbolic links are neither
// followed nor watched. A directory reachable under two paths (a bind mount
// inside the source) is watched under one of them and polled under the other.
// On kqueue systems the backend holds a descriptor per file.
package watcher
