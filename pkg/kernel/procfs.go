package kernel

import (
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// sysctls is where the kernel shows its settings; what lies below net/ follows the network namespace of the thread
// that opens it (proc_net.c).
const sysctls = "/proc/sys"

// settings are the files below /proc/sys, by way of an instance of that file system which nobody else sees, where the
// kernel gives one.
//
// In each instance the kernel keeps the directories net/ipv4 and net/ipv6 of all namespaces side by side under one name,
// those of containers long gone included until memory is short, and goes through them to find one's own
// (proc_sys_compare in fs/proc/proc_sysctl.c): milliseconds after some thousand containers. A new instance has none, and
// takes a tenth of one.
type settings struct {
	opened bool
	root   int // of the instance; AT_FDCWD: there is none, and everybody's has to do
}

// open opens the file or the directory of a key.
func (s *settings) open(key string, flags int) (int, error) {
	if !s.opened {
		s.opened, s.root = true, ownProc()
	}
	path := pathOf(key)
	at, name := s.root, path
	if at != unix.AT_FDCWD {
		name = strings.TrimPrefix(path, "/proc/")
	}
	fd, err := unix.Openat(at, name, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// pathOf is where everybody finds a setting, for messages too.
func pathOf(key string) string { return filepath.Join(sysctls, key) }

// read returns the words of a setting with one space between them; the kernel puts tabs between numbers.
func (s *settings) read(key string) (string, error) {
	fd, err := s.open(key, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	b, err := readOpen(fd, pathOf(key))
	return strings.Join(strings.Fields(string(b)), " "), err
}

// write writes a setting in one piece, as the kernel wants it. An empty line empties a list, writing nothing does not.
func (s *settings) write(key, value string) error {
	fd, err := s.open(key, unix.O_WRONLY)
	if err != nil {
		return err
	}
	return writeOpen(fd, pathOf(key), value+"\n")
}

func (s *settings) close() {
	if s.opened && s.root != unix.AT_FDCWD {
		_ = unix.Close(s.root)
	}
}

// ownProc mounts a proc file system nowhere, and returns its root: fsopen(2) and fsmount(2), Linux 5.2, with an instance
// for each since Linux 5.8. It takes CAP_SYS_ADMIN over the process namespace, which root of a user namespace of its own
// need not have. Where /proc/sys/net is mounted read-only, by itself or with all of /proc, somebody does not want it written
// to, and has it their way.
func ownProc() int {
	var stat unix.Statfs_t
	if err := unix.Statfs(pathOf("net"), &stat); err != nil || stat.Flags&unix.ST_RDONLY != 0 {
		return unix.AT_FDCWD
	}
	context, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return unix.AT_FDCWD
	}
	defer unix.Close(context)
	if err := unix.FsconfigCreate(context); err != nil {
		return unix.AT_FDCWD
	}
	root, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC,
		unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return unix.AT_FDCWD
	}
	return root
}
