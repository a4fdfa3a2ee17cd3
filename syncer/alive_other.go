//go:build !unix

package syncer

// alive cannot be told here: a lease must run out.
func alive(int) bool { return true }
