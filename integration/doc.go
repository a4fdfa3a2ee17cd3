// Package integration proves skyagent from outside: its tests build the
// program and run it against real servers, as a user would. It promises that
// nothing is skipped but by -short. It exports nothing.
package integration
