package hosts

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// A Kind is what keeps a host from getting what it should.
type Kind string

const (
	Unreachable Kind = "unreachable" // nothing answers there
	HostKey     Kind = "host key"    // the host is not known, or not the one it was
	Refused     Kind = "refused"     // it does not take our key
	NoRsync     Kind = "no rsync"    // there is no rsync there
	OldRsync    Kind = "old rsync"   // it does not know what we ask for
	DiskFull    Kind = "disk full"
	Denied      Kind = "denied" // the user may not write there
	Unread      Kind = "unread" // some files cannot be read here; all others are there
	Other       Kind = "other"
)

// An Error is a transfer to one host that failed.
type Error struct {
	Host, Target string
	Kind         Kind
	Detail       string // what ssh or rsync said, one line
	Partly       bool   // some paths alone failed: the host has all others
}

func (e *Error) Error() string { return fmt.Sprintf("host %s: %s: %s", e.Host, e.Target, e.Detail) }

// The exit codes of rsync that mean something to us.
const (
	exitPartial  = 23
	exitVanished = 24 // something went while it was read: an event will tell
	exitSSH      = 255
)

// signs are what is said on standard error, in the C locale, by which a failure
// is known. The first that is there decides.
var signs = []struct {
	words string
	kind  Kind
}{
	{"No space left on device", DiskFull},
	{"Disk quota exceeded", DiskFull},
	{"Host key verification failed", HostKey},
	{"REMOTE HOST IDENTIFICATION HAS CHANGED", HostKey},
	{"Permission denied (publickey", Refused},
	{"Permission denied (password", Refused},
	{"Permission denied (keyboard", Refused},
	{"Too many authentication failures", Refused},
	{"rsync: command not found", NoRsync},
	{"rsync: not found", NoRsync},
	{"remote command not found", NoRsync},
	{"unknown option", OldRsync},
	{"Could not resolve hostname", Unreachable},
	{"Connection refused", Unreachable},
	{"Connection timed out", Unreachable},
	{"No route to host", Unreachable},
	{"Network is unreachable", Unreachable},
	{"Connection closed by", Unreachable},
	{"Connection reset", Unreachable},
	{"Permission denied", Denied},
	{"Read-only file system", Denied},
}

// failure makes of rsync's end the error to report; nil when all is there.
func failure(ctx context.Context, host, target string, err error, said string) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.As(err, &exit):
		return err // rsync is not here, or could not be started
	case exit.ExitCode() == exitVanished:
		return nil
	}
	e := &Error{Host: host, Target: target, Kind: Other}
	if exit.ExitCode() == exitPartial && onlyUnread(said) {
		e.Kind, e.Detail = Unread, lineWith(said, unreadWords)
		return e
	}
	e.Partly = exit.ExitCode() == exitPartial
	for _, s := range signs {
		if line := lineWith(said, s.words); line != "" {
			e.Kind, e.Detail = s.kind, line
			return e
		}
	}
	if exit.ExitCode() == exitSSH {
		e.Kind = Unreachable
	}
	if e.Detail = lineWith(said, ""); e.Detail == "" {
		e.Detail = exit.Error()
	}
	return e
}

// lineWith returns the first line that has words, trimmed; "" when none has.
func lineWith(said, words string) string {
	for line := range strings.Lines(said) {
		line = strings.Trim(line, " \t\r\n@")
		if line != "" && strings.Contains(line, words) && !strings.HasPrefix(line, "file has vanished") {
			return line
		}
	}
	return ""
}

// unreadWords are what rsync says of a file that it cannot read.
const unreadWords = "send_files failed to open"

// onlyUnread reports whether nothing failed but the reading of files here.
func onlyUnread(said string) bool {
	unread := false
	for line := range strings.Lines(said) {
		switch {
		case strings.Contains(line, unreadWords):
			unread = true
		case strings.HasPrefix(line, "rsync: "):
			return false
		}
	}
	return unread
}
