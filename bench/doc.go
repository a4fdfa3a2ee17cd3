// Package bench compares skyagent with the raw cost of its steps and with its
// peers, always within one run on the same machine and the same servers. It
// prints distributions and ratios; it asserts nothing, since machines differ.
//
//	go test ./bench -bench . -benchtime 1x -v
package bench
