package file

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncAll makes the contents of all files durable. A crowd shares one syncfs:
// it costs what a single fsync does while nobody else writes much.
func syncAll(files []*os.File) error {
	if len(files) <= crowd {
		return syncEach(files)
	}
	for {
		err := unix.Syncfs(int(files[0].Fd()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "syncfs", Path: files[0].Name(), Err: err}
		}
		return nil
	}
}

// startWriteback asks the kernel to begin writing n bytes at off. Without it a
// big file's dirty pages pile up and the next syncfs of a small one waits for
// all of them.
func startWriteback(f *os.File, off, n int64) {
	unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}
