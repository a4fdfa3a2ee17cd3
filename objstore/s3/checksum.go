package s3

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net/http"
	"sync"
)

// A checksum goes with every object that one request puts. A server that does
// not compare the length of what it got with what was announced (versitygw)
// would make an object of the half that it had when the connection ended; a
// part of an upload needs none, since nobody completes it.

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli) // of all that S3 takes, the one that costs least
	buffers    = sync.Pool{New: func() any { return new([64 << 10]byte) }}
)

// sum reads body, from its start, to tell the server what it must get.
func sum(h http.Header, body io.ReadSeeker, size int64) error {
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return err
	}
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	crc := uint32(0)
	for left := size; left > 0; {
		n, err := io.ReadFull(body, buf[:min(left, int64(len(buf)))])
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("body ends before byte %d: %w: %w", size, fs.ErrInvalid, io.ErrUnexpectedEOF)
		case err != nil:
			return fmt.Errorf("read body: %w: %w", fs.ErrInvalid, err)
		}
		crc = crc32.Update(crc, castagnoli, buf[:n])
		left -= int64(n)
	}
	h["X-Amz-Checksum-Crc32c"] = []string{base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))}
	return nil
}
