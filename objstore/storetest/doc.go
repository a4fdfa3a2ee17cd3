// Package storetest holds what stores are tested with: Run, the one test body
// that every objstore.Store passes, and Memory, a Store without a server that
// can be told to fail.
//
// Run promises that a store which passes keeps the contract of
// objstore.Store; it does not say how fast, and it cannot say that a write
// survives a power cut. Memory keeps the whole contract but durability.
package storetest
