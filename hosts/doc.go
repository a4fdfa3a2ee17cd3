// Package hosts keeps files and directories of this machine the same on other
// machines, straight over SSH and without a bucket: SkyPilot's plain file mounts.
// It runs the rsync and ssh that are installed, and nothing of what it is given
// is read by a remote shell.
//
// What a host gets. First everything, by size and time as rsync compares them;
// then, of each batch of settled paths, what was changed, whatever its size and
// time say. Symlinks go as symlinks, modes and times are kept, owners are not.
// Devices, sockets and FIFOs are left out and reported. A file appears on the
// host whole, by rename; a file that is written while it is read may arrive in a
// state that it never had, and is sent again when it has settled.
//
// What is ignored. What the rules of Options.Ignore say of a directory; a file
// that is a mount of its own is sent whatever they say. It is as if it were not
// there: what becomes ignored after it was sent is deleted like what is gone, and
// behind the same guard, and what no longer is ignored is sent. A look at a path
// reads the rules of the directories above it; what else they decide the Rescan
// shows that follows their change.
//
// What is deleted. Only what was sent: what a host has of its own stays, and so
// does a directory that holds any of it. A source that is gone, or lost more
// than half of 100 files at once, is no deletion (see Guarded). The source wins
// over an edit on the host.
//
// Order. Deletions come before what is new in their place. Beyond that, none.
//
// Loss. Every host is served on its own: what fails there waits, and is tried
// again with growing pauses, while the others go on. A host that was away gets
// the newest state, not every state between.
//
// Crash and restart. What was sent is recorded in the state directory when a host
// has it. A restart begins with a pass over everything, and deletes what was
// recorded and is gone. A record that is lost costs deletions that were made while nobody
// looked: those files stay on the host.
package hosts
