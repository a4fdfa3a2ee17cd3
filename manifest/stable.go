package manifest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/zeebo/blake3"
)

// ErrUnstable says that a file changed while it was read, or is not the file
// that was looked at: what was read of it must be thrown away.
var ErrUnstable = errors.New("changed while it was read")

// A Stable is a regular file that is open for reading and knows whether
// anybody changed it since.
type Stable struct {
	file *os.File
	root *os.Root
	name string
	stat Stat // when it was opened
}

// OpenStable opens the regular file at p. A symlink at p, a symlink on the way
// that leads out of the root, and anything that is not a regular file is
// ErrUnstable: whoever looked before saw another thing.
func OpenStable(root *os.Root, p Path) (*Stable, error) {
	name := filepath.FromSlash(string(p))
	// Without openNoWait a FIFO that took the file's place would block for ever.
	file, err := root.OpenFile(name, os.O_RDONLY|openNoWait, 0)
	if err != nil {
		return nil, err
	}
	fi, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	s := &Stable{file: file, root: root, name: name, stat: StatOf(fi)}
	if !fi.Mode().IsRegular() {
		file.Close()
		return nil, fmt.Errorf("%s: %w", p, ErrUnstable)
	}
	return s, nil
}

// Stat returns what the file system showed when the file was opened.
func (s *Stable) Stat() Stat { return s.stat }

// ReadAt reads the file.
func (s *Stable) ReadAt(b []byte, off int64) (int, error) { return s.file.ReadAt(b, off) }

// Reader returns the file itself, from which the system can copy without
// passing the bytes through this process.
func (s *Stable) Reader() io.Reader { return s.file }

// Close closes the file.
func (s *Stable) Close() error { return s.file.Close() }

// Check returns ErrUnstable unless the file is still as it was when it was
// opened: device, inode, size and both times, by its descriptor and by its name.
func (s *Stable) Check() error {
	now, err := s.file.Stat()
	if err != nil {
		return err
	}
	named, err := s.root.Lstat(s.name)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", s.name, ErrUnstable)
	}
	if err != nil {
		return err
	}
	if StatOf(now) != s.stat || StatOf(named) != s.stat {
		return fmt.Errorf("%s: %w", s.name, ErrUnstable)
	}
	return nil
}

// Content reads the whole file and checks it.
func (s *Stable) Content() ([]byte, error) {
	b := make([]byte, s.stat.Size)
	if _, err := io.ReadFull(io.NewSectionReader(s.file, 0, s.stat.Size), b); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			err = fmt.Errorf("%s: %w", s.name, ErrUnstable)
		}
		return nil, err
	}
	return b, s.Check()
}

// hashBuffer is the read size that was fastest for many sizes of files, in bytes.
const hashBuffer = 256 << 10

var hashBuffers = sync.Pool{New: func() any { return new([hashBuffer]byte) }}

// Hash reads the whole file, checks it and returns its hash and, when partSize
// is not 0, the hash of every part.
func (s *Stable) Hash(partSize int64) (Hash, []Hash, error) {
	hash, parts, err := HashReader(io.NewSectionReader(s.file, 0, s.stat.Size), partSize)
	if err != nil {
		return Hash{}, nil, err
	}
	return hash, parts, s.Check()
}

// HashReader returns the hash of all that r gives and, when partSize is not 0,
// the hash of every part.
func HashReader(r io.Reader, partSize int64) (Hash, []Hash, error) {
	buf := hashBuffers.Get().(*[hashBuffer]byte)
	defer hashBuffers.Put(buf)
	var (
		whole = blake3.New()
		parts []Hash
	)
	if partSize == 0 {
		_, err := io.CopyBuffer(onlyWriter{whole}, r, buf[:])
		return sumOf(whole), nil, err
	}
	part := blake3.New()
	for {
		part.Reset()
		n, err := io.CopyBuffer(io.MultiWriter(whole, part), io.LimitReader(r, partSize), buf[:])
		if err != nil {
			return Hash{}, nil, err
		}
		if n == 0 {
			return sumOf(whole), parts, nil
		}
		parts = append(parts, sumOf(part))
	}
}

// onlyWriter hides every method but Write, so that io.CopyBuffer uses its buffer.
type onlyWriter struct{ io.Writer }

func sumOf(h *blake3.Hasher) (sum Hash) {
	h.Sum(sum[:0])
	return sum
}

// PartSize returns the size in bytes of the parts into which a file of size
// bytes is cut: a power of two of at least 8 MiB that needs at most 8,000
// parts, since S3, R2 and GCS take 10,000. It is 0 below PartThreshold. A file
// that grows keeps the part size it had before (0 is none) as long as it can:
// parts of another size are all other parts.
func PartSize(size, before int64) int64 {
	if size < PartThreshold {
		return 0
	}
	if before > 0 && size/before < 9000 {
		return before
	}
	part := int64(8 << 20)
	for size/part >= 8000 {
		part *= 2
	}
	return part
}
