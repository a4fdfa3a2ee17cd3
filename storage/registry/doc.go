// Package registry remembers the storages that skyagent made on this machine:
// what storage ls lists, and storage delete may delete. Nothing else is in it.
//
// It promises that many processes may use it at a time, each change being
// whole and on disk when the call returns, also after a crash; and that a
// storage that is being deleted stays so until it is gone: whoever works with
// it is told, and nothing makes it anew under their hands.
//
// It knows nothing of buckets. A storage whose bucket was deleted elsewhere
// stands in it until somebody removes it.
package registry
