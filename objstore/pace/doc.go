// Package pace sends a store's HTTP requests no faster than the store and the
// user like: so many at a time, so many a second, so many bytes a second.
//
// How many at a time it finds out: the window opens while more requests move
// more, closes a little when they move less, and halves when the store asks to
// slow down. It promises that requests get their turn in the order they asked,
// that one which is cancelled gives its place back, and that a place is held
// until the answer's body was closed or read to its end. It neither retries nor
// reorders, and it is safe for use by many goroutines.
package pace
