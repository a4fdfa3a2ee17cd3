package manifest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/skyagent/skyagent/manifest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// aCommit has every field set.
func aCommit() manifest.Commit {
	large := file("data/large.bin", "stands for much")
	large.Size, large.PartSize = 20<<20, 8<<20
	large.Parts = []manifest.Hash{manifest.Sum([]byte("1")), manifest.Sum([]byte("2")), manifest.Sum([]byte("3"))}
	run := file("run.sh", "#!/bin/sh\n")
	run.Mode = 0o755
	return manifest.Commit{
		Epoch: "EPOCH7Q", Generation: 42, Prev: manifest.Sum([]byte("commit 41")),
		Writer: "UWRITER", WriteID: "ATTEMPT1", Time: time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC),
		Changes: []manifest.Change{
			{Op: manifest.Put, File: folder("data")},
			{Op: manifest.Put, File: large},
			{Op: manifest.Put, File: file("empty", "")},
			{Op: manifest.Put, File: run},
			{Op: manifest.Put, File: file("ünïcödé/…", "x")},
			{Op: manifest.Delete, File: manifest.File{Path: "old/name"}},
		},
	}
}

func aCheckpoint() manifest.Checkpoint {
	m := manifest.New()
	for _, c := range aCommit().Changes {
		if c.Op == manifest.Put {
			m.Put(c.File)
		}
	}
	return manifest.Checkpoint{Epoch: "EPOCH7Q", Generation: 42, Commit: manifest.Sum([]byte("commit 42")), Manifest: m}
}

// checkpointJSON is how the golden file beside a checkpoint shows it.
type checkpointJSON struct {
	Epoch      manifest.Epoch
	Generation uint64
	Commit     manifest.Hash
	Files      []manifest.File
}

func readable(c manifest.Checkpoint) checkpointJSON {
	return checkpointJSON{c.Epoch, c.Generation, c.Commit, slices.Collect(c.Manifest.All())}
}

// golden compares what the stored bytes decode to with the JSON beside them.
// The bytes are those of the day on which the format was fixed: a change that
// cannot read them breaks every bucket there is.
func golden(t *testing.T, name string, encoded []byte, decode func([]byte) (any, error)) {
	t.Helper()
	stored := filepath.Join("testdata", name+".skya")
	shown := filepath.Join("testdata", name+".json")
	if *update {
		v, err := decode(encoded)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(stored, encoded, 0o644), os.WriteFile(shown, append(text, '\n'), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(shown)
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(stored)
	if err != nil {
		t.Fatal(err)
	}
	for what, b := range map[string][]byte{"stored": old, "encoded now": encoded} {
		v, err := decode(b)
		if err != nil {
			t.Errorf("%s, %s: %v", name, what, err)
			continue
		}
		got, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(append(got, '\n'), want) {
			t.Errorf("%s, %s: got\n%s\nwant\n%s", name, what, got, want)
		}
	}
}

func TestGoldenCommit(t *testing.T) {
	golden(t, "commit", manifest.EncodeCommit(aCommit()), func(b []byte) (any, error) { return manifest.DecodeCommit(b) })
}

func TestGoldenCheckpoint(t *testing.T) {
	golden(t, "checkpoint", manifest.EncodeCheckpoint(aCheckpoint()), func(b []byte) (any, error) {
		c, err := manifest.DecodeCheckpoint(b)
		return readable(c), err
	})
}

func TestCommitRoundTrip(t *testing.T) {
	for _, want := range []manifest.Commit{aCommit(), {Time: time.Unix(0, 0).UTC()}, {Generation: math.MaxUint64, Time: time.Unix(-5, 7).UTC()}} {
		got, err := manifest.DecodeCommit(manifest.EncodeCommit(want))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
	}
}

func TestInlineDataIsNotEncoded(t *testing.T) {
	c := aCommit()
	plain := manifest.EncodeCommit(c)
	c.Changes[2].Data = []byte("inline")
	if !bytes.Equal(manifest.EncodeCommit(c), plain) {
		t.Error("the bytes of an event went into a commit")
	}
}

var encoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true))
	if err != nil {
		panic(err)
	}
	return e
})

// sealed packs a message as the package does.
func sealed(kind, version byte, msg []byte) []byte {
	return encoder().EncodeAll(msg, append([]byte("skya"), kind, version))
}

// opened is the message inside an encoding.
func opened(t testing.TB, b []byte) []byte {
	t.Helper()
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	msg, err := d.DecodeAll(b[6:], nil)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// strange has one unknown field of every wire type.
func strange() []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, 900, protowire.VarintType), 7)
	b = protowire.AppendString(protowire.AppendTag(b, 901, protowire.BytesType), "from the future")
	b = protowire.AppendFixed32(protowire.AppendTag(b, 902, protowire.Fixed32Type), 1)
	b = protowire.AppendFixed64(protowire.AppendTag(b, 903, protowire.Fixed64Type), 1)
	group := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7)
	return protowire.AppendGroup(protowire.AppendTag(b, 904, protowire.StartGroupType), 904, group)
}

func TestUnknownFieldsAreSkipped(t *testing.T) {
	change := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1)
	change = protowire.AppendString(protowire.AppendTag(change, 2, protowire.BytesType), "f")
	change = append(change, strange()...)
	msg := append(opened(t, manifest.EncodeCommit(aCommit())), strange()...)
	msg = protowire.AppendBytes(protowire.AppendTag(msg, 7, protowire.BytesType), change)
	got, err := manifest.DecodeCommit(sealed('C', 1, msg))
	want := aCommit()
	want.Changes = append(want.Changes, manifest.Change{Op: manifest.Put, File: manifest.File{Path: "f"}})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}

	msg = append(opened(t, manifest.EncodeCheckpoint(aCheckpoint())), strange()...)
	cp, err := manifest.DecodeCheckpoint(sealed('M', 1, msg))
	if err != nil || !reflect.DeepEqual(readable(cp), readable(aCheckpoint())) {
		t.Errorf("got %+v, %v", cp, err)
	}
}

func TestNewerVersionIsRefused(t *testing.T) {
	b := manifest.EncodeCommit(aCommit())
	b[5] = 2
	var version *manifest.VersionError
	_, err := manifest.DecodeCommit(b)
	if !errors.As(err, &version) || version.Major != 2 || errors.Is(err, manifest.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	if want := "format version 2 is newer than this skyagent reads (1)"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	b = manifest.EncodeCheckpoint(aCheckpoint())
	b[5] = 9
	if _, err := manifest.DecodeCheckpoint(b); !errors.As(err, &version) || version.Major != 9 {
		t.Errorf("got %v", err)
	}
}

// A raw is a File, field by field, as a hostile writer may encode it.
type raw struct {
	op, mode, size, partSize uint64
	path                     string
	hash, parts              []byte
}

func (r raw) encode() []byte {
	var b []byte
	number := func(n protowire.Number, v uint64) {
		b = protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
	}
	text := func(n protowire.Number, v []byte) {
		b = protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
	}
	number(1, r.op)
	text(2, []byte(r.path))
	number(3, r.mode)
	number(4, r.size)
	if r.hash != nil {
		text(6, r.hash)
	}
	number(8, r.partSize)
	text(9, r.parts)
	return b
}

func TestHostileFilesAreCorrupt(t *testing.T) {
	hash := make([]byte, 32)
	for name, r := range map[string]raw{
		"parent":                {op: 1, path: "../x"},
		"parent inside":         {op: 1, path: "a/../../x"},
		"absolute":              {op: 1, path: "/etc/passwd"},
		"reserved":              {op: 1, path: ".skyagent/x"},
		"reserved, deleted":     {op: 2, path: ".skyagent/sources/main/lease"},
		"root":                  {op: 1, path: "."},
		"no path":               {op: 1},
		"zero byte":             {op: 1, path: "a\x00b"},
		"not UTF-8":             {op: 1, path: "\xff"},
		"no operation":          {op: 0, path: "a"},
		"unknown operation":     {op: 3, path: "a"},
		"operation mod 256":     {op: 257, path: "a"},
		"negative size":         {op: 1, path: "a", size: math.MaxUint64},
		"huge size":             {op: 1, path: "a", size: math.MaxInt64},
		"negative parts":        {op: 1, path: "a", size: 1, partSize: 1 << 63},
		"too few parts":         {op: 1, path: "a", size: 100, partSize: 10, parts: hash},
		"too many parts":        {op: 1, path: "a", size: 10, partSize: 10, parts: append(hash, hash...)},
		"parts of no size":      {op: 1, path: "a", size: 10, parts: hash},
		"half a part":           {op: 1, path: "a", size: 10, partSize: 10, parts: hash[:16]},
		"short hash":            {op: 1, path: "a", size: 10, hash: hash[:31]},
		"directory with a size": {op: 1, path: "a", mode: 0o40755, size: 5},
	} {
		msg := r.encode()
		commit := protowire.AppendBytes(protowire.AppendTag(nil, 7, protowire.BytesType), msg)
		if c, err := manifest.DecodeCommit(sealed('C', 1, commit)); !errors.Is(err, manifest.ErrCorrupt) {
			t.Errorf("%s: commit decodes to %+v, %v", name, c, err)
		}
		if strings.Contains(name, "operation") {
			continue // a checkpoint has none
		}
		checkpoint := protowire.AppendBytes(protowire.AppendTag(nil, 4, protowire.BytesType), msg)
		if c, err := manifest.DecodeCheckpoint(sealed('M', 1, checkpoint)); !errors.Is(err, manifest.ErrCorrupt) {
			t.Errorf("%s: checkpoint decodes to %+v, %v", name, c, err)
		}
	}
}

func TestDamagedBytesAreCorrupt(t *testing.T) {
	whole := manifest.EncodeCommit(aCommit())
	for n := range len(whole) {
		if _, err := manifest.DecodeCommit(whole[:n]); !errors.Is(err, manifest.ErrCorrupt) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(whole), err)
		}
	}
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 0x20
		c, err := manifest.DecodeCommit(b)
		var version *manifest.VersionError
		if err == nil && !reflect.DeepEqual(c, aCommit()) || err != nil && !errors.Is(err, manifest.ErrCorrupt) && !errors.As(err, &version) {
			t.Fatalf("byte %d flipped: %+v, %v", i, c, err)
		}
	}
	for _, b := range [][]byte{nil, []byte("skya"), []byte("hello, world"), manifest.EncodeCheckpoint(aCheckpoint()), sealed('C', 0, nil)} {
		if _, err := manifest.DecodeCommit(b); !errors.Is(err, manifest.ErrCorrupt) {
			t.Errorf("%q: %v", b, err)
		}
	}
}

// A few kilobytes must not make a worker allocate gigabytes.
func TestZipBomb(t *testing.T) {
	var packed bytes.Buffer
	packed.WriteString("skyaC\x01")
	e, err := zstd.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 256 {
		e.Write(zeros)
	}
	e.Close()
	claim := []byte("skyaC\x01\x28\xb5\x2f\xfd\xe0\xff\xff\xff\x7f\x00\x00\x00\x00\x01\x00\x00") // 2 GiB, it says
	for name, bomb := range map[string][]byte{"streamed": packed.Bytes(), "declared": sealed('C', 1, make([]byte, 256<<20)), "claimed": claim} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = manifest.DecodeCommit(bomb)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, manifest.ErrCorrupt) {
			t.Errorf("%s: %d bytes: %v", name, len(bomb), err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 128<<20 {
			t.Errorf("%s: %d bytes made the decoder allocate %d", name, len(bomb), got)
		}
	}
}

// What compresses best of what is real must still decode.
func TestRepetitiveManifestDecodes(t *testing.T) {
	m := manifest.New()
	for i := range 50_000 {
		m.Put(manifest.File{Path: manifest.Path(fmt.Sprintf("%s%06d", strings.Repeat("deep/", 40), i)), Mode: fs.ModeDir | 0o755})
	}
	b := manifest.EncodeCheckpoint(manifest.Checkpoint{Manifest: m})
	c, err := manifest.DecodeCheckpoint(b)
	if err != nil || c.Manifest.Len() != m.Len() {
		t.Fatalf("%d bytes: %v", len(b), err)
	}
}

func FuzzDecodeCommit(f *testing.F) {
	f.Add(opened(f, manifest.EncodeCommit(aCommit())))
	f.Add(strange())
	f.Fuzz(func(t *testing.T, msg []byte) {
		c, err := manifest.DecodeCommit(sealed('C', 1, msg))
		if err != nil {
			if !errors.Is(err, manifest.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		for _, ch := range c.Changes {
			checkSane(t, ch.File)
		}
		again, err := manifest.DecodeCommit(manifest.EncodeCommit(c))
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("got %+v, %v\nwant %+v", again, err, c)
		}
	})
}

func FuzzDecodeCheckpoint(f *testing.F) {
	f.Add(opened(f, manifest.EncodeCheckpoint(aCheckpoint())))
	f.Add(strange())
	f.Fuzz(func(t *testing.T, msg []byte) {
		c, err := manifest.DecodeCheckpoint(sealed('M', 1, msg))
		if err != nil {
			if !errors.Is(err, manifest.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		for f := range c.Manifest.All() {
			checkSane(t, f)
		}
		again, err := manifest.DecodeCheckpoint(manifest.EncodeCheckpoint(c))
		if err != nil || !reflect.DeepEqual(readable(again), readable(c)) {
			t.Fatalf("got %+v, %v\nwant %+v", again, err, c)
		}
	})
}

func checkSane(t *testing.T, f manifest.File) {
	t.Helper()
	if _, err := manifest.ParsePath(string(f.Path)); err != nil || f.Size < 0 || f.PartSize < 0 || f.PartSize == 0 && f.Parts != nil {
		t.Fatalf("decoded %+v", f)
	}
}
