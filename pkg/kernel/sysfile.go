package kernel

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// A setting is a file of a few bytes that never blocks. The standard library would register each with its poller, which
// takes more system calls than reading or writing it.

func openAt(dir int, name string, flags int) (int, error) {
	fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, nil
}

// readOpen returns what an open setting holds, and closes it. It returns up to a page: the kernel gives no more at once
// (fs/proc/proc_sysctl.c, fs/sysfs/file.c).
func readOpen(fd int, name string) ([]byte, error) {
	defer unix.Close(fd)
	b := make([]byte, 4096)
	n, err := unix.Read(fd, b)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return b[:n], nil
}

// writeOpen writes an open setting in one piece, as the kernel wants it, and closes it.
func writeOpen(fd int, name, value string) error {
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return &fs.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}

// writeAt writes a setting in a directory.
func writeAt(dir int, name, value string) error {
	fd, err := openAt(dir, name, unix.O_WRONLY)
	if err != nil {
		return err
	}
	return writeOpen(fd, name, value)
}
