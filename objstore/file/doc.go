// Package file is a bucket in a directory: every object is a regular file, its
// key the path below the directory, byte for byte, so that cp and ls see what
// S3 tools would.
//
// It promises what objstore.Store promises, to any number of processes on one
// machine: a Put is on disk when it returns, conditions are checked under a
// lock that all processes share, and no key can name a file outside the
// directory. It does not promise that to processes on several machines that
// share the directory by NFS: locks and times are weaker there. Files that
// others put into the directory are objects too; symlinks, devices and empty
// directories are not.
//
// # Layout
//
//	DIR/<key>                         an object
//	DIR/.skyagent-store/odd/…         objects whose key cannot be a file name here
//	DIR/.skyagent-store/meta/…        stamps, where extended attributes do not work
//	DIR/.skyagent-store/tmp/<id>/     files being written by one process
//	DIR/.skyagent-store/lock/…        what processes lock
//
// A key is odd when it has a segment that is empty, "." or "..", or longer
// than 255 bytes, when it begins with .skyagent-store, or when its place is
// taken: "a" and "a/b" can both be objects, but only one of them can be a file
// beside the other's directory. Odd keys are hexadecimal in file names, in an
// order that is the order of the keys; whatever key S3 allows works.
//
// # Revisions
//
// A write stamps its file with a random id, which is the revision, and with the
// metadata. The stamp counts only while the file has the size and time that it
// was stamped with: an object that was edited in place has another revision,
// made of inode, time and size, and no metadata.
//
// # Durability
//
// Put writes a temporary file, makes it durable, links or renames it, and makes
// the directory durable. Writers that come together share the waiting: on Linux
// a crowd is served by one syncfs, and a lone writer pays two fsyncs.
package file
