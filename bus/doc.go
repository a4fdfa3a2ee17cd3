// Package bus carries hints over NATS: events that say a commit was written,
// the presence of workers, and their acknowledgements. It brings the server
// too, embedded, for machines that have no NATS of their own.
//
// It promises that an event it hands out was signed, for this bucket, by a
// writer whose key stands in it, that publishing never holds up the
// caller, and that the newest event of a source arrives as long as some server
// stays reachable. It does not promise that every event arrives, and nothing
// may depend on it: the log in the bucket is the truth, and whoever lost an
// event finds the same there.
//
// # Order
//
// A Follower hands out the events of one source and epoch in rising order of
// generation, and skips generations freely: its mailbox holds one event a
// source, the newest. Between two epochs, and between two sources, there is no
// order. A reader applies an event whose Prev is what it has, ignores one that
// is not newer, and reads the log for everything else.
//
// # Duplicates
//
// An event travels twice: at once on the live subject, and into the stream that
// late workers read, where its Msg-Id (source-epoch-generation) is stored once.
// A publisher says its newest event again after every reconnect and, without
// the changes, every half minute. A Follower drops what is not newer than what
// it has handed out before, so replayed events cost one verification each.
//
// # Loss
//
// The live subject is at most once. A follower that was away gets the newest
// event with one direct get at the start, after every reconnect and every half
// minute; where the server keeps no stream, the publisher's half-minute beacon
// stands in. With NATS gone, Conn.Up is false and readers list the log.
//
// # Crash
//
// The outbox lives in memory: a publisher killed between commit and
// announcement says nothing, and its next life announces the head of its log
// when it starts (the syncer's part). A killed bus owner loses its lock with
// its life; another process that waits in Own takes over, and clients find it
// because they read the address file at every attempt. Presence expires after
// a minute.
//
// # Restart
//
// A server that comes back with its store goes on where it was; one that comes
// back empty gets its stream from the next publisher and its presence from
// every worker's next report. Since generations and epochs travel inside the
// signed event, sequence numbers that start again confuse nobody.
package bus
