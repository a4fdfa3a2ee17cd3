package blocks

import "sync/atomic"

// pieces is a set of pieces that is read without a lock.
type pieces []atomic.Uint64

func newPieces(n int64) pieces { return make(pieces, ceil(n, 64)) }

func (p pieces) has(i int64) bool { return p[i/64].Load()&(1<<(i%64)) != 0 }
func (p pieces) add(i int64)      { p[i/64].Or(1 << (i % 64)) }
func (p pieces) remove(i int64)   { p[i/64].And(^(uint64(1) << (i % 64))) }

// all reports whether every piece of from to to, which is not one of them, is
// in the set.
func (p pieces) all(from, to int64) bool {
	for i := from; i < to; i++ {
		if !p.has(i) {
			return false
		}
	}
	return true
}
