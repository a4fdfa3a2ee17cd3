//go:build linux

package posix

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"
)

// The content of a register follows from its value alone, of 4 bytes to 64 KiB:
// the value, and bytes that it decides. So every other content is seen to be
// torn or mixed, and a value that nobody wrote is found by the check.
func content(value uint32) []byte {
	source := rand.NewPCG(uint64(value), 0x5ca1ab1e)
	size := 4
	if r := source.Uint64(); r%4 != 0 {
		size += int(r >> 8 % (1 << (r >> 4 % 17)))
	}
	b := make([]byte, size+8)
	for i := 0; i < size; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], source.Uint64())
	}
	binary.LittleEndian.PutUint32(b, value)
	return b[:size]
}

// readValue opens, reads and closes a register.
func readValue(path string) (uint32, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	b, err := io.ReadAll(f)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return 0, err
	}
	return parse(b)
}

// parse returns the value whose content b is.
func parse(b []byte) (uint32, error) {
	if len(b) < 4 {
		return 0, fmt.Errorf("torn: %d bytes, %x", len(b), b)
	}
	value := binary.LittleEndian.Uint32(b)
	want := content(value)
	if bytes.Equal(b, want) {
		return value, nil
	}
	if len(b) != len(want) {
		return 0, fmt.Errorf("torn: begins as value %#x of %d bytes and has %d", value, len(want), len(b))
	}
	return 0, fmt.Errorf("mixed: begins as value %#x, and %w", value, different(b, want, 0))
}

// writeValue opens a register with O_TRUNC, writes in a few pieces and closes.
func writeValue(path string, value uint32, rnd *rand.Rand) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	for b := content(value); len(b) > 0 && err == nil; {
		n := 1 + rnd.IntN(len(b))
		_, err = f.Write(b[:n])
		b = b[n:]
	}
	closed := f.Close()
	if err != nil && !errors.Is(err, unix.ESTALE) {
		// Part of it is in the file, and the close may have made that last.
		return fmt.Errorf("%w, after a part: %v, %v", unix.EIO, err, closed)
	}
	return errors.Join(err, closed)
}
