package integration_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/zeebo/blake3"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/file"
	"github.com/skyagent/skyagent/objstore/gcs"
	"github.com/skyagent/skyagent/objstore/s3"
	"github.com/skyagent/skyagent/syncer"
)

// A depot is a kind of store, with somebody who counts the bytes that are sent
// to it.
type depot struct {
	home  *program.Home
	url   string
	sync  func(t *testing.T, source string) // nil runs the program
	sent  func() int64                      // bytes of all requests' bodies so far
	store objstore.Store
	patch bool // the store copies ranges, not only what an object begins with
}

// deltaSize is how large the file is, in bytes: 256 MiB, or what
// SKYAGENT_DELTA_SIZE says in MiB; make delta says 2,048.
func deltaSize(t *testing.T) int64 {
	size := int64(256)
	if v := os.Getenv("SKYAGENT_DELTA_SIZE"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		must(t, err)
		size = n
	}
	return size << 20
}

func TestDelta(t *testing.T) {
	for name, open := range map[string]func(*testing.T) *depot{"s3": s3Depot, "r2": r2Depot, "file": fileDepot, "gcs": gcsDepot} {
		t.Run(name, func(t *testing.T) { testDelta(t, open(t)) })
	}
}

func s3Depot(t *testing.T) *depot {
	server := servers.Versitygw(t)
	proxy := servers.NewProxy(t, server.Endpoint)
	home := program.NewHome(t)
	home.Env = append(append(home.Env, server.Environ()...), "AWS_ENDPOINT_URL_S3="+proxy.URL)
	bucket := server.NewBucket(t)
	store, err := s3.New(t.Context(), s3.Config{Bucket: bucket, Endpoint: server.Endpoint, Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, "")})
	must(t, err)
	return &depot{home: home, url: "s3://" + bucket, store: store, patch: true, sent: func() int64 { return proxy.Traffic("").Up }}
}

func r2Depot(t *testing.T) *depot {
	program.Short(t)
	server := servers.R2(t)
	proxy := servers.NewProxy(t, server.Endpoint)
	home := program.NewHome(t)
	home.Env = append(append(home.Env, server.Environ()...), "R2_ENDPOINT_URL="+proxy.URL)
	bucket := server.NewBucket(t)
	store, err := s3.New(t.Context(), s3.Config{Scheme: "r2", Bucket: bucket, Endpoint: server.Endpoint, Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, "")})
	must(t, err)
	return &depot{home: home, url: "r2://" + bucket, store: store, patch: true, sent: func() int64 { return proxy.Traffic("").Up }}
}

func gcsDepot(t *testing.T) *depot {
	server, home := servers.GCS(t), program.NewHome(t)
	home.Env = append(home.Env, server.Environ()...)
	bucket := server.NewBucket(t)
	store, err := gcs.New(t.Context(), gcs.Config{Bucket: bucket, Endpoint: server.Endpoint})
	must(t, err)
	return &depot{home: home, url: "gs://" + bucket, store: store, sent: server.Uploaded}
}

// fileDepot runs the source in this process: nobody stands between the program
// and a directory.
func fileDepot(t *testing.T) *depot {
	program.Short(t)
	dir := t.TempDir()
	files, err := file.New(file.Config{Path: dir})
	must(t, err)
	counted := &countedStore{Store: files}
	index := filepath.Join(t.TempDir(), "index")
	return &depot{home: program.NewHome(t), url: "file://" + dir, store: files, patch: true, sent: counted.read.Load,
		sync: func(t *testing.T, source string) {
			opts := syncer.SourceOptions{Root: source, Store: counted, Source: "main", Storage: "delta", Index: index, Writer: "w", Host: "h"}
			must(t, syncer.NewSource(opts).Sync(t.Context()))
		}}
}

// A countedStore counts the bytes that are read from the bodies of writes.
type countedStore struct {
	objstore.Store
	read atomic.Int64
}

func (s *countedStore) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, opts objstore.PutOptions) (objstore.Info, error) {
	return s.Store.Put(ctx, key, &countedBody{ReadSeeker: body, read: &s.read}, size, opts)
}

func (s *countedStore) Assemble(ctx context.Context, key string, base objstore.Rev, parts []objstore.Part, check func() error, opts objstore.PutOptions) (objstore.Info, error) {
	counted := slices.Clone(parts)
	for i, p := range parts {
		if p.Body != nil {
			counted[i].Body = countedPart{p.Body, &s.read}
		}
	}
	return s.Store.Assemble(ctx, key, base, counted, check, opts)
}

type countedBody struct {
	io.ReadSeeker
	read *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadSeeker.Read(p)
	b.read.Add(int64(n))
	return n, err
}

type countedPart struct {
	io.ReaderAt
	read *atomic.Int64
}

func (b countedPart) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.ReaderAt.ReadAt(p, off)
	b.read.Add(int64(n))
	return n, err
}

func (d *depot) push(t *testing.T, source string) {
	t.Helper()
	if d.sync != nil {
		d.sync(t, source)
		return
	}
	d.home.MustRun(t, "sync", source, "--to", d.url)
}

// testDelta changes a large file in the ways that large files change, and
// counts what is sent for it.
func testDelta(t *testing.T, d *depot) {
	const mib = 1 << 20
	size := deltaSize(t)
	source, replica := t.TempDir(), t.TempDir()
	path := filepath.Join(source, "large.bin")
	noise := rand.NewChaCha8([32]byte{7})
	writeAt(t, path, noise, 0, size)
	step := func(what string, most int64) {
		t.Helper()
		before := d.sent()
		d.push(t, source)
		sent := d.sent() - before
		t.Logf("%s: %.2f MiB sent", what, float64(sent)/mib)
		if sent > most {
			t.Errorf("%s: %d bytes were sent, want %d at most", what, sent, most)
		}
	}
	const words = 64 << 10 // commits and leases
	step("new", size+words)
	if d.patch {
		writeAt(t, path, noise, size/2+12345, mib)
		step("1 MiB overwritten in the middle", 32*mib)
	}
	writeAt(t, path, noise, size, 64*mib)
	step("64 MiB appended", 96*mib)
	moved := filepath.Join(source, "dir", "renamed.bin")
	must(t, os.Mkdir(filepath.Dir(moved), 0o755))
	must(t, os.Rename(path, moved))
	step("renamed", words)

	d.home.MustRun(t, "copy", d.url, replica, "--once")
	want := fileHash(t, moved)
	if got := fileHash(t, filepath.Join(replica, "dir", "renamed.bin")); got != want {
		t.Error("the replica has other bytes")
	}
	got, meta := objectHash(t, d.store, "dir/renamed.bin")
	if got != want || meta != want {
		t.Errorf("the object has hash %s and says %s, the file has %s", got, meta, want)
	}
}

// writeAt writes n bytes of noise at offset off.
func writeAt(t *testing.T, path string, noise *rand.ChaCha8, off, n int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	must(t, err)
	_, err = io.CopyN(io.NewOffsetWriter(f, off), noise, n)
	must(t, err)
	must(t, f.Close())
}

func fileHash(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	return hashOf(t, f)
}

func objectHash(t *testing.T, s objstore.Store, key string) (content, meta string) {
	t.Helper()
	body, info, err := s.Get(t.Context(), key, 0, -1, objstore.Cond{})
	must(t, err)
	defer body.Close()
	return hashOf(t, body), info.Meta["blake3"]
}

func hashOf(t *testing.T, r io.Reader) string {
	t.Helper()
	h := blake3.New()
	_, err := io.Copy(h, r)
	must(t, err)
	return fmt.Sprintf("%x", h.Sum(nil))
}

// An upload that is killed goes on where it was.
func TestResumeAfterKill(t *testing.T) {
	d := s3Depot(t)
	const size, before = 256 << 20, 96 << 20
	source, replica := t.TempDir(), t.TempDir()
	path := filepath.Join(source, "large.bin")
	writeAt(t, path, rand.NewChaCha8([32]byte{8}), 0, size)
	p := d.home.Start(t, "sync", source, "--to", d.url, "--bwlimit", "64M:off")
	deadline := time.Now().Add(program.Patience)
	for d.sent() < before && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	p.Kill()
	sent := d.sent()
	if sent < before {
		t.Fatalf("%d bytes were sent before the deadline", sent)
	}
	d.home.MustRun(t, "sync", source, "--to", d.url)
	again := d.sent() - sent
	t.Logf("%d MiB sent, killed, %d MiB sent", sent>>20, again>>20)
	// Parts of 8 MiB that were under way are sent again, eight at most.
	if most := int64(size - before + 8*8<<20 + 1<<20); again > most {
		t.Errorf("%d bytes were sent after the kill, want %d at most", again, most)
	}
	d.home.MustRun(t, "copy", d.url, replica, "--once")
	if fileHash(t, path) != fileHash(t, filepath.Join(replica, "large.bin")) {
		t.Error("the replica has other bytes")
	}
}
