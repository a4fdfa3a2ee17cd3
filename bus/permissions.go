package bus

import "github.com/nats-io/nats-server/v2/server"

// A Role says what a client of the bus is for.
type Role string

// The roles of the bus.
const (
	Watcher Role = "watch" // commits and announces
	Worker  Role = "work"  // follows one storage and reports
	Mounter Role = "mount" // a worker that announces what was written through its mount
	Viewer  Role = "view"  // sees events and presence, says nothing
)

// Permissions list the subjects that a client may use; a NATS server takes them
// as they are. Everything not named is refused.
type Permissions struct {
	Publish   []string `json:"publish"`
	Subscribe []string `json:"subscribe"`
}

const directGet = "$JS.API.DIRECT.GET."

// InboxPrefix returns the prefix of a client's private inboxes. With the
// default prefix every client of an account could read the others' replies.
func InboxPrefix(id string) string { return "_INBOX_" + Token(id) }

// PermissionsFor returns the least that a client with this role and id needs
// for one storage. The client connects with InboxPrefix(id).
//
// A worker cannot announce, a mounter no commits. Neither can see
// other storages either; a viewer or watcher sees the presence (not the events)
// of all storages of its account, because a listing of a KV bucket cannot be
// limited by subject. Workers and mounters may speak to their own inbox, which
// is how a Feed finds out that it has heard everything.
func PermissionsFor(role Role, storage, id string) Permissions {
	storage, id = Token(storage), Token(id)
	p := Permissions{
		Publish:   []string{directGet + StreamName + "." + storedSubject(storage)},
		Subscribe: []string{"skyagent.v1.live." + storage + ".>", InboxPrefix(id) + ".>"},
	}
	if role != Viewer {
		p.Publish = append(p.Publish, ackSubject(storage, id), presenceSubject(storage, id))
	}
	if role == Worker || role == Mounter {
		p.Publish = append(p.Publish, InboxPrefix(id)+".>")
	}
	if role == Mounter {
		p.Publish = append(p.Publish, storedWrites(storage), liveWrites(storage))
		p.Publish = append(p.Publish, locking(storage)...)
	}
	if role == Watcher || role == Viewer {
		p.Publish = append(p.Publish, directGet+workersStream)
		p.Subscribe = append(p.Subscribe, ackSubject(storage, "*"), presenceSubject(storage, "*"))
	}
	if role == Watcher {
		p.Publish = append(p.Publish, announcing(storage)...)
	}
	return p
}

// announcing lists what a watcher publishes: its events, and what it takes to
// make the stream and the presence bucket where there are none.
func announcing(storage string) []string {
	return []string{
		"skyagent.v1.ev." + storage + ".>",
		"skyagent.v1.live." + storage + ".>",
		"$JS.API.STREAM.INFO." + StreamName,
		"$JS.API.STREAM.CREATE." + StreamName,
		"$JS.API.STREAM.CREATE." + workersStream,
	}
}

// locking lists what it takes to lock, and to make the buckets for that. Locks
// are advisory: whoever may take them may take them away, too.
func locking(storage string) []string {
	p := []string{lockSubject(storage, "*"), leaseSubject(storage, "*")}
	for _, stream := range []string{locksStream, leasesStream} {
		p = append(p, "$JS.API.STREAM.CREATE."+stream, "$JS.API.STREAM.MSG.GET."+stream)
	}
	return p
}

func (p Permissions) server() *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: p.Publish},
		Subscribe: &server.SubjectPermission{Allow: p.Subscribe},
	}
}
