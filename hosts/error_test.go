//go:build unix

package hosts_test

import (
	"errors"
	"fmt"
	"os/exec"
	"testing"

	"github.com/skyagent/skyagent/hosts"
)

// exit returns the error of a program that ended with a code.
func exit(t *testing.T, code int) error {
	t.Helper()
	err := exec.Command("sh", "-c", fmt.Sprint("exit ", code)).Run()
	if err == nil {
		t.Fatal("it ended well")
	}
	return err
}

// TestFailure knows failures by what rsync and ssh say. What the servers of the
// other tests say is not here.
func TestFailure(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		code   int
		said   string
		kind   hosts.Kind // "" for none
		detail string
	}{
		{24, "file has vanished: \"/a\"\nrsync warning: some files vanished\n", "", ""},
		{23, "rsync: [sender] send_files failed to open \"/s/a\": Permission denied (13)\nrsync error: some files/attrs were not transferred\n",
			hosts.Unread, `rsync: [sender] send_files failed to open "/s/a": Permission denied (13)`},
		{23, "rsync: [sender] send_files failed to open \"/s/a\": Permission denied (13)\nrsync: [receiver] mkstemp \"/t/.b\" failed: Permission denied (13)\n",
			hosts.Denied, `rsync: [sender] send_files failed to open "/s/a": Permission denied (13)`},
		{11, "rsync: mkdir \"/datasets\" failed: Permission denied (13)\nrsync error: error in file IO\n", hosts.Denied, `rsync: mkdir "/datasets" failed: Permission denied (13)`},
		{1, "rsync: --mkpath: unknown option\n", hosts.OldRsync, "rsync: --mkpath: unknown option"},
		{255, "Connection closed by 10.0.0.1 port 22\r\n", hosts.Unreachable, "Connection closed by 10.0.0.1 port 22"},
		{255, "something new\n", hosts.Unreachable, "something new"},
		{12, "", hosts.Other, "exit status 12"},
	} {
		err := hosts.Failure(exit(t, tc.code), tc.said)
		var e *hosts.Error
		if !errors.As(err, &e) {
			e = &hosts.Error{}
		}
		if e.Kind != tc.kind || e.Detail != tc.detail {
			t.Errorf("%d %q: %v, kind %q", tc.code, tc.said, err, e.Kind)
		}
	}
}
