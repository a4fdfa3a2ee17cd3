package watcher

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A timerfd is an alarm that the kernel keeps to some microseconds.
type timerfd struct {
	ring chan struct{}
	done chan struct{} // closed when listen has ended
	fd   int           // of file; used while file is open, by the goroutine that sets and stops
	file *os.File
}

func newAlarm() (alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return newTicker(), nil // some sandboxes have none
	}
	t := &timerfd{
		ring: make(chan struct{}, 1), done: make(chan struct{}),
		fd: fd, file: os.NewFile(uintptr(fd), "timerfd"),
	}
	go t.listen()
	return t, nil
}

func (t *timerfd) listen() {
	defer close(t.done)
	var expirations [8]byte
	for {
		if _, err := t.file.Read(expirations[:]); err != nil {
			return
		}
		signal(t.ring)
	}
}

func (t *timerfd) set(d time.Duration) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, d.Nanoseconds()))} // 0 would disarm it
	if err := unix.TimerfdSettime(t.fd, 0, &spec, nil); err != nil {
		panic(fmt.Sprintf("timerfd_settime(%v): %v", d, err)) // only a wrong call fails
	}
}

func (t *timerfd) c() <-chan struct{} { return t.ring }

func (t *timerfd) stop() {
	t.file.Close()
	<-t.done
}
