package blocks

const (
	firstWindow = 512 << 10 // bytes to be ahead of a stream that was just found
	firstRead   = 1 << 20   // bytes to fetch for a read of a content's beginning
	mostSlack   = 4 << 20   // bytes that a stream's reads may come out of order
	streamsEach = 4         // streams in one Reader: threads that share a descriptor
)

// A stream is a run of reads that follow one another, give or take the order
// in which a kernel that reads ahead asks.
type stream struct {
	next  int64 // where it will go on
	run   int64 // bytes read so far
	ahead int64 // up to where everything was asked for
}

// holds reports whether a read at off goes on with s. How far it may miss the
// place grows with the stream, so that scattered small reads are none.
func (s *stream) holds(off int64) bool {
	slack := min(2*s.run, mostSlack)
	return s.run > 0 && off >= s.next-slack && off <= s.next+slack
}

// note takes down a read that goes on with s.
func (s *stream) note(off, n int64) {
	s.next = max(s.next, off+n)
	s.run += n
	s.ahead = max(s.ahead, off+n)
}

// want returns what to fetch now so that s need not wait, at most most bytes
// ahead of it: from the end of what was asked for, twice as far as it has come.
// It asks for little at a time only at the end of the content. to is not
// greater than from when there is nothing to do.
func (s *stream) want(most, size int64) (from, to int64) {
	window := min(most, max(2*s.run, firstWindow))
	to = up(s.next+window, grain)
	if window >= block/2 {
		to = up(to, block) // whole parts can be proven
	}
	if to = min(to, size); to < size && to-s.ahead < min(block, window/2) {
		return s.ahead, s.ahead
	}
	return s.ahead, to
}

// streams are those of one Reader, the latest first.
type streams [streamsEach]stream

// advance notes a read of n bytes at off and returns what to fetch beyond it.
// The stream counts as that far ahead; see short.
func (ss *streams) advance(off, n, most, size int64) (from, to int64) {
	if from, to = ss.follow(off, n, most, size); from < to {
		ss[0].ahead = to
	}
	return from, to
}

func (ss *streams) follow(off, n, most, size int64) (from, to int64) {
	for i := range ss {
		if ss[i].holds(off) {
			s := ss[i]
			s.note(off, n)
			copy(ss[1:i+1], ss[:i])
			ss[0] = s
			return s.want(most, size)
		}
	}
	copy(ss[1:], ss[:])
	ss[0] = stream{next: off + n, run: n, ahead: off + n}
	if off == 0 {
		return n, min(firstRead, most, size)
	}
	return off + n, off + n
}

// short notes that not all up to to could be asked for, only up to reached.
func (ss *streams) short(to, reached int64) {
	for i := range ss {
		if ss[i].ahead == to {
			ss[i].ahead = reached
		}
	}
}
