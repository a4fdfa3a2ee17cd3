// Package posix proves that a directory is a file system: FSX compares random
// operations with a model, Suite compares every call with what a Profile
// promises, Registers looks for a reader that saw what it must not, and Programs
// runs what people run.
//
// Everything takes directories and knows nothing of what lies behind them, so
// that it can be tried on a local file system and used on a mount. It promises
// that a failure says what repeats it, that nothing is left in a directory after
// success, and that a file system which does wrong does not pass: its own tests
// do wrong on purpose. It measures nothing but PingPong, and asserts no time.
//
// Where several processes are needed, the test's own binary is started again:
// a package that imports posix runs such a process instead of its tests when the
// environment says so.
package posix
