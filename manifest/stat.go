package manifest

import (
	"io/fs"
	"time"
)

// A Stat is what a file system tells of a file without reading it. Two equal
// Stats of one path mean that nobody changed the file in between, if the first
// was not Fresh when it was taken. The zero Stat equals that of no file.
type Stat struct {
	Dev   uint64 // 0 where the system has none; not kept in an Index, since it may change at a reboot
	Ino   uint64 // 0 where the system has none
	Size  int64
	MTime int64 // nanoseconds since 1970 UTC
	CTime int64 // nanoseconds since 1970 UTC; MTime where the system has none
	Mode  fs.FileMode
}

// Unchanged reports whether t shows the same file as s in the same state, as
// far as one may know when the device's number may have changed in between.
func (s Stat) Unchanged(t Stat) bool {
	return s.Ino == t.Ino && s.Size == t.Size && s.MTime == t.MTime && s.CTime == t.CTime &&
		s.Mode.Type() == t.Mode.Type() && s != Stat{}
}

const (
	// freshFine is longer than a tick of any kernel (10 ms at 100 Hz), by which
	// a file system with nanosecond stamps may round.
	freshFine = 50 * time.Millisecond
	// freshCoarse covers file systems that stamp whole or even seconds (FAT, HFS+, NFSv2).
	freshCoarse = 2 * time.Second
)

// Fresh reports whether the file changed so shortly before now that a later
// write could leave the same stamps: its Stat proves nothing. The time of
// modification has no say in it, since anybody may set that.
func (s Stat) Fresh(now time.Time) bool {
	window := freshFine
	if s.MTime%int64(time.Second) == 0 && s.CTime%int64(time.Second) == 0 {
		window = freshCoarse
	}
	return s.CTime > now.Add(-window).UnixNano()
}
