// Package blocks is how a mount reads contents of objects: through a cache on
// disk that fetches no more than it must, or ahead of who reads in a row.
//
// A content is what the store has at a key in one revision. It never changes,
// so that nothing here ever goes stale, and several processes may share one
// directory without a lock: all that they write is the same.
//
// # What is fetched
//
// A content of up to 1 MiB comes whole, by one GET. Of a larger one a scattered
// read fetches the pieces of 128 KiB that it touches. Reads in a row are noticed
// for every Reader, and what follows is fetched by up to eight parallel GETs of
// 8 MiB, up to twice as far ahead as the run is long. All Readers share one
// budget of memory: a run alone may have a third of it, several share it, and a
// quarter is kept for those who wait. Nothing is fetched twice at the same time
// in one process; of what another process fetched, the pieces on disk are found.
//
// # What is proven
//
// A small content is compared with its hash before its first byte is given out.
// Of a larger one, bytes are given out as they come, before anybody could know
// the hash of the part that they are in: to wait for a part of 8 MiB costs no
// throughput where the network is fast, but where it is slow it costs the
// seconds in which eight of them come at the same time. What is kept instead is
// that no wrong byte passes in silence:
//
//   - the last piece of a part is held back until all that is on its way of the
//     part has come and, if it is whole, been compared with its hash. Who reads
//     from the beginning to the end gets an error before the end of the first
//     part that is wrong, never a wrong file;
//   - a part that proves wrong is forgotten. Readers that were given bytes that
//     nobody had proven fail with ErrCorrupt from then on; the content's other
//     Readers get no byte of it any more that is not proven, and ErrCorrupt when
//     the store sends the part wrong a second time.
//
// Not proven is what has no hash, and what was read here and there of a part
// that never was whole on disk. A content of up to 64 MiB that has a hash but no
// parts counts as one part.
//
// # What is on disk
//
// A large content is a sparse file of its own, beside a file of checksums: every
// piece has one, which is compared when the piece is used for the first time
// since the file was opened. Small contents lie together in packs, because to
// make a file for each takes longer than to fetch it, and are compared whenever
// they are read from disk. What a crash, a bad disk or a stranger left is
// fetched again, never given out. There is no fsync.
//
// When the limit is reached, what was not used for longest is deleted: a large
// content or a pack, as a whole. Who has a file open goes on reading it. A
// content larger than the limit pushes itself out as it is read. A disk that is
// full or fails is done without: that is said once, and it is tried again every
// half minute. Meanwhile only the parts that come by one GET are proven.
//
// Processes that share a directory find each other's pieces when they miss them,
// small contents within a second, and keep to the limit together within 16 MiB
// each.
//
// # What is waited for
//
// A read ends with its context, and the fetch goes on for others. It fails with
// os.ErrDeadlineExceeded when the store gave nothing for Options.Deadline.
// Nothing is tried again: the Store is to be wrapped in objstore.Retry.
package blocks
