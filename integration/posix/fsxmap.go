//go:build linux

package posix

import (
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// mapRead compares part of the file as a shared mapping shows it. What lies
// after the file's end, up to the end of the page, must be zeros.
func (x *fsx) mapRead(off, size int64) error {
	have := int64(len(x.model))
	if off >= have {
		return nil
	}
	size = min(size, have-off)
	return x.mapped(off, size, unix.PROT_READ, func(pages []byte, at int64) error {
		if err := x.compare(pages[at:at+size], off, size); err != nil {
			return err
		}
		return x.checkTail(pages, off-at)
	})
}

// mapWrite writes through a shared mapping, and makes the file longer first
// where it must.
func (x *fsx) mapWrite(off, size int64) error {
	if end := off + size; end > int64(len(x.model)) {
		if err := x.cut(end, x.file.Truncate(end)); err != nil {
			return err
		}
	}
	return x.mapped(off, size, unix.PROT_READ|unix.PROT_WRITE, func(pages []byte, at int64) error {
		copy(pages[at:], x.bytesInto(off, size))
		if err := unix.Msync(pages, unix.MS_SYNC); err != nil {
			return fmt.Errorf("msync: %w", err)
		}
		return x.checkTail(pages, off-at)
	})
}

// mapped maps the whole pages that hold size bytes from off, and tells do where
// in them off is.
func (x *fsx) mapped(off, size int64, prot int, do func(pages []byte, at int64) error) error {
	page := int64(os.Getpagesize())
	at := off % page
	pages, err := unix.Mmap(int(x.file.Fd()), off-at, int((at+size+page-1)/page*page), prot, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	err = guarded(func() error { return do(pages, at) })
	if unmapped := unix.Munmap(pages); err == nil && unmapped != nil {
		err = fmt.Errorf("munmap: %w", unmapped)
	}
	return err
}

// guarded returns the fault of touching pages that the file system cannot give
// (SIGBUS) as an error: else it would end the process without naming the seed.
func guarded(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("touch a mapped page: %v", fault)
		}
	}()
	return do()
}

// checkTail wants zeros after the file's end in pages, a mapping from off on.
func (x *fsx) checkTail(pages []byte, off int64) error {
	end := int64(len(x.model))
	for i := max(0, end-off); i < int64(len(pages)); i++ {
		if pages[i] != 0 {
			return fmt.Errorf("0x%02x at 0x%x, after the end 0x%x in the same page", pages[i], off+i, end)
		}
	}
	return nil
}
