package bus

import (
	"strings"

	"github.com/skyagent/skyagent/manifest"
)

// Names on the server. The version is part of the subject, so that two
// versions of skyagent can share one.
const (
	StreamName    = "SKYAGENT_EV"
	WorkersBucket = "skyagent_workers"

	streamSubjects = "skyagent.v1.ev.>"
	workersStream  = "KV_" + WorkersBucket
)

// maxToken bounds a token, so that subjects stay short whatever a storage is
// called.
const maxToken = 48

// Token returns name as one token of a subject: letters, digits, '-' and '_'.
// A name that had to be changed or cut gets '-' and 8 digits of its hash, so
// that two names do not become one. Token(Token(name)) is Token(name).
func Token(name string) string {
	clean := strings.Map(tokenRune, name)
	if clean == name && name != "" && len(name) <= maxToken {
		return name
	}
	sum := manifest.Sum([]byte(name)).String()[:8]
	return clean[:min(len(clean), maxToken-9)] + "-" + sum
}

func tokenRune(r rune) rune {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_':
		return r
	}
	return '_'
}

func storedSubject(storage string) string { return "skyagent.v1.ev." + storage + ".commit" }
func liveSubject(storage string) string   { return "skyagent.v1.live." + storage + ".commit" }

// Subjects of writes made through mounts.
func storedWrites(storage string) string { return "skyagent.v1.ev." + storage + ".object" }
func liveWrites(storage string) string   { return "skyagent.v1.live." + storage + ".object" }

func ackSubject(storage, worker string) string {
	return "skyagent.v1.ack." + storage + "." + worker
}

func presenceSubject(storage, worker string) string {
	return "$KV." + WorkersBucket + "." + storage + "." + worker
}
