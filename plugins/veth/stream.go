package main

import "golang.org/x/sys/unix"

// A Go program that writes to a broken pipe by os.Stdout or os.Stderr dies of it (os/signal, "SIGPIPE"). An ADD that cannot
// tell its result has something to undo first, so these two fail instead. To ignore the signal would do, too, but what a
// delegate executes would inherit that.
const (
	stdout stream = 1
	stderr stream = 2
)

type stream int

// Write implements io.Writer.
func (s stream) Write(b []byte) (written int, err error) {
	for written < len(b) {
		n, err := unix.Write(int(s), b[written:])
		switch err {
		case nil:
			written += n
		case unix.EINTR:
		case unix.EAGAIN: // a pipe that is full, and was made not to block
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(s), Events: unix.POLLOUT}}, -1); err != nil && err != unix.EINTR {
				return written, err
			}
		default:
			return written, err
		}
	}
	return written, nil
}
