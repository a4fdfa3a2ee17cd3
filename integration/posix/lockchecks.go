//go:build linux

package posix

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	shared    = unix.LOCK_SH | unix.LOCK_NB
	exclusive = unix.LOCK_EX | unix.LOCK_NB
)

var lockChecks = []check{
	{"flock of two descriptors", func(s *scene) {
		s.file("f", "x")
		one, two := s.open("f", os.O_RDWR), s.open("f", os.O_RDONLY)
		s.want("first shared", flock(one, shared))
		s.want("second shared", flock(two, shared))
		s.want("first exclusive", flock(one, exclusive), unix.EWOULDBLOCK)
		s.want("second unlocks", flock(two, unix.LOCK_UN))
		s.want("first exclusive", flock(one, exclusive))
		s.want("second shared", flock(two, shared), unix.EWOULDBLOCK)
		s.must("close", one.Close())
		s.want("second exclusive", flock(two, exclusive))
	}},
	{"flock of a dup", func(s *scene) {
		s.file("f", "x")
		one, two := s.open("f", os.O_RDWR), s.open("f", os.O_RDWR)
		fd, err := unix.Dup(int(one.Fd()))
		s.must("dup", err)
		s.want("exclusive", flock(one, exclusive))
		s.must("close of the first", one.Close())
		s.want("the dup holds it", flock(two, exclusive), unix.EWOULDBLOCK)
		s.must("close of the dup", unix.Close(fd))
		s.want("free", flock(two, exclusive))
	}},
	{"flock of a directory", func(s *scene) {
		s.mkdir("d")
		one, two := s.open("d", os.O_RDONLY), s.open("d", os.O_RDONLY)
		s.want("exclusive", flock(one, exclusive))
		s.want("second", flock(two, exclusive), unix.EWOULDBLOCK)
	}},
	{"flock of two processes", func(s *scene) {
		other := s.locker(s.file("f", "x"))
		f := s.open("f", os.O_RDWR)
		s.want("exclusive", flock(f, exclusive))
		s.want("the other's shared", other.do("flock", shared), unix.EWOULDBLOCK)
		waits := other.begin("flock", unix.LOCK_EX)
		s.want("unlock", flock(f, unix.LOCK_UN))
		s.want("the other's wait", waits())
		s.want("exclusive", flock(f, exclusive), unix.EWOULDBLOCK)
		other.end()
		s.want("after the other's end", flock(f, exclusive))
	}},
	{"fcntl of two processes", fcntlProcesses},
	{"fcntl is gone with any close", func(s *scene) {
		other := s.locker(s.file("f", "0123456789"))
		f := s.open("f", os.O_RDWR)
		s.want("lock", lock(f, unix.F_SETLK, unix.F_WRLCK, 0, 0))
		s.want("the other's lock", other.do("fcntl", unix.F_WRLCK, 0, 0), unix.EAGAIN, unix.EACCES)
		s.must("close of another descriptor", s.open("f", os.O_RDONLY).Close())
		s.want("the other's lock", other.do("fcntl", unix.F_WRLCK, 0, 0))
		other.end()
		s.want("after the other's end", lock(f, unix.F_SETLK, unix.F_WRLCK, 0, 0))
	}},
	{"fcntl and its modes", func(s *scene) {
		s.file("f", "x")
		s.want("write lock of O_RDONLY", lock(s.open("f", os.O_RDONLY), unix.F_SETLK, unix.F_WRLCK, 0, 0), unix.EBADF)
		s.want("read lock of O_WRONLY", lock(s.open("f", os.O_WRONLY), unix.F_SETLK, unix.F_RDLCK, 0, 0), unix.EBADF)
	}},
	{"OFD locks", func(s *scene) {
		s.file("f", "0123456789")
		one, two := s.open("f", os.O_RDWR), s.open("f", os.O_RDWR)
		s.want("first", lock(one, unix.F_OFD_SETLK, unix.F_WRLCK, 0, 5))
		s.want("second, same range", lock(two, unix.F_OFD_SETLK, unix.F_WRLCK, 4, 5), unix.EAGAIN)
		s.want("second, other range", lock(two, unix.F_OFD_SETLK, unix.F_WRLCK, 5, 5))
		s.must("close", one.Close())
		s.want("second, all", lock(two, unix.F_OFD_SETLK, unix.F_WRLCK, 0, 0))
	}},
}

func fcntlProcesses(s *scene) {
	other := s.locker(s.file("f", "0123456789"))
	f := s.open("f", os.O_RDWR)
	s.want("lock 0 to 5", lock(f, unix.F_SETLK, unix.F_WRLCK, 0, 5))
	s.want("the other's 4 to 6", other.do("fcntl", unix.F_RDLCK, 4, 2), unix.EAGAIN, unix.EACCES)
	s.want("the other's 5 to 10", other.do("fcntl", unix.F_WRLCK, 5, 5))
	l := unix.Flock_t{Type: unix.F_WRLCK, Start: 0, Len: 10}
	s.want("F_GETLK", unix.FcntlFlock(f.Fd(), unix.F_GETLK, &l))
	if l.Type != unix.F_WRLCK || l.Start != 5 || l.Len != 5 || int(l.Pid) != other.cmd.Process.Pid {
		s.Errorf("F_GETLK: %+v, want a write lock from 5, 5 long, of %d", l, other.cmd.Process.Pid)
	}
	s.want("lock 6", lock(f, unix.F_SETLK, unix.F_WRLCK, 6, 1), unix.EAGAIN, unix.EACCES)
	s.want("unlock 0 to 5", lock(f, unix.F_SETLK, unix.F_UNLCK, 0, 5))
	s.want("the other's 0 to 5", other.do("fcntl", unix.F_WRLCK, 0, 5))
	other.end()
	s.want("after the other's end", lock(f, unix.F_SETLK, unix.F_WRLCK, 0, 0))
}

func flock(f *os.File, how int) error {
	_, err := retry(func() (struct{}, error) { return struct{}{}, unix.Flock(int(f.Fd()), how) })
	return err
}

func lock(f *os.File, cmd int, typ int16, off, size int64) error {
	_, err := retry(func() (struct{}, error) {
		return struct{}{}, unix.FcntlFlock(f.Fd(), cmd, &unix.Flock_t{Type: typ, Start: off, Len: size})
	})
	return err
}

// A locker is another process that has the file open.
type locker struct {
	*scene
	*child
}

func (s *scene) locker(path string) *locker {
	s.Helper()
	return &locker{s, start(s.T, "locker", path)}
}

// begin asks for a lock; what it returns waits for the answer.
func (l *locker) begin(kind string, args ...int) (answer func() error) {
	l.Helper()
	args = append(args, 0, 0)[:3]
	if _, err := fmt.Fprintln(l.in, kind, args[0], args[1], args[2]); err != nil {
		l.Fatalf("ask the other process: %v", err)
	}
	return func() error {
		var errno syscall.Errno
		if _, err := fmt.Fscanln(l.out, &errno); err != nil {
			l.Fatalf("hear the other process: %v", err)
		}
		if errno == 0 {
			return nil
		}
		return errno
	}
}

func (l *locker) do(kind string, args ...int) error {
	l.Helper()
	return l.begin(kind, args...)()
}

// end lets the other process leave, with what it holds.
func (l *locker) end() {
	l.Helper()
	l.must("end of the other process", l.wait())
}

// lockerMain is the other process: it takes the locks that lines of standard
// input ask for, on the file that it is given, and answers with errnos.
func lockerMain() error {
	f, err := os.OpenFile(os.Args[1], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var kind string
		var a, b, c int
		if _, err := fmt.Sscan(lines.Text(), &kind, &a, &b, &c); err != nil {
			return err
		}
		var errno syscall.Errno
		if kind == "flock" {
			err = flock(f, a)
		} else {
			err = lock(f, unix.F_SETLK, int16(a), int64(b), int64(c))
		}
		errors.As(err, &errno)
		fmt.Println(int(errno))
	}
	return lines.Err()
}
