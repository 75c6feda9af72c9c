package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// trafficCommand is the first argument of a process that is one end of a measurement: the same executable, started in
// a container's namespace and on certain processors.
const trafficCommand = "traffic"

// load is what passes between two containers.
type load struct {
	name string // as on the command line
	what string
	unit string
	// scale turns the count of a second into the unit.
	scale float64
	flows int
	tcp   bool
	serve func(*peer) (count, error)
	drive func(*peer) (count, error)
	// counted says whose count is the result.
	byServer bool
}

var loads = []load{
	{
		name: "stream", what: "TCP, one stream", unit: "Gbit/s", scale: 8e-9, flows: 1, tcp: true,
		serve: (*peer).sink, drive: (*peer).pour, byServer: true,
	},
	{
		name: "streams", what: "TCP, four streams", unit: "Gbit/s", scale: 8e-9, flows: 4, tcp: true,
		serve: (*peer).sink, drive: (*peer).pour, byServer: true,
	},
	{
		name: "packets", what: "UDP, packets of 64 bytes that arrive", unit: "thousand/s", scale: 1e-3, flows: 1,
		serve: (*peer).hear, drive: (*peer).fire, byServer: true,
	},
	{
		name: "requests", what: "TCP, request and response of one byte", unit: "thousand/s", scale: 1e-3, flows: 1, tcp: true,
		serve: (*peer).answer, drive: (*peer).ask,
	},
	{
		name: "connections", what: "TCP, connect, request, response, close", unit: "thousand/s", scale: 1e-3, flows: 1, tcp: true,
		serve: (*peer).greet, drive: (*peer).visit,
	},
}

// peer is one end.
type peer struct {
	load    *load
	address unix.Sockaddr
	family  int
	time    time.Duration
	listen  int // the server's socket
	began   func()
	first   time.Time // when the first connection was there
}

// count is so many things in a time.
type count struct {
	N    int
	Took time.Duration
	Busy time.Duration // how long the process had a processor, in the kernel or not
}

// traffic is the whole life of an end: "server", or "client", the load, the address and the time. The server says that it is
// ready and ends when its standard input does; both say what they counted.
func traffic(args []string) error {
	const port = 5001
	debug.SetGCPercent(-1) // nothing here makes garbage
	if len(args) != 4 {
		return errors.New("not enough arguments")
	}
	addr, err := netip.ParseAddr(args[2])
	if err != nil {
		return err
	}
	p := &peer{family: unix.AF_INET6, address: &unix.SockaddrInet6{Port: port, Addr: addr.As16()}}
	p.began = sync.OnceFunc(func() { p.first = time.Now() })
	if addr.Is4() {
		p.family, p.address = unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: addr.As4()}
	}
	for i := range loads {
		if loads[i].name == args[1] {
			p.load = &loads[i]
		}
	}
	if p.time, err = time.ParseDuration(args[3]); err != nil || p.load == nil {
		return fmt.Errorf("bad arguments %s: %w", strings.Join(args, " "), err)
	}
	// A thread that waits in a raw system call keeps what the runtime runs goroutines on.
	runtime.GOMAXPROCS(p.load.flows + 2)
	var c count
	before := busy()
	if args[0] == "server" {
		c, err = p.server()
	} else {
		c, err = p.load.drive(p)
	}
	if err != nil {
		return err
	}
	c.Busy = busy() - before
	return json.NewEncoder(os.Stdout).Encode(c)
}

func busy() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (p *peer) server() (count, error) {
	fd, err := p.socket()
	if err != nil {
		return count{}, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err := unix.Bind(fd, p.address); err != nil {
		return count{}, os.NewSyscallError("bind", err)
	}
	if p.load.tcp {
		const backlog = 512
		if err := unix.Listen(fd, backlog); err != nil {
			return count{}, os.NewSyscallError("listen", err)
		}
	}
	p.listen = fd
	fmt.Println(ready)
	return p.load.serve(p)
}

// ready is what a server says when a client may come.
const ready = "ready"

func (p *peer) socket() (int, error) {
	kind := unix.SOCK_STREAM
	if !p.load.tcp {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(p.family, kind|unix.SOCK_CLOEXEC, 0)
	if err == nil && p.load.tcp {
		_ = unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_NODELAY, 1)
	}
	return fd, os.NewSyscallError("socket", err)
}

func (p *peer) connect() (int, error) {
	fd, err := p.socket()
	if err != nil {
		return -1, err
	}
	for {
		err := unix.Connect(fd, p.address)
		if err == nil || errors.Is(err, unix.EISCONN) {
			return fd, nil
		}
		if !errors.Is(err, unix.EINTR) {
			_ = unix.Close(fd)
			return -1, os.NewSyscallError("connect", err)
		}
	}
}

func (p *peer) accept() (int, error) {
	for {
		fd, _, err := unix.Accept4(p.listen, unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_NODELAY, 1)
		}
		return fd, os.NewSyscallError("accept", err)
	}
}

// bufferLength is what a stream hands to the kernel at once.
const bufferLength = 256 << 10

// pour sends as much as it can on each flow.
func (p *peer) pour() (count, error) {
	return p.transfer(p.connect, func(fd int, buffer []byte) (total int, err error) {
		for end := time.Now().Add(p.time); time.Now().Before(end); {
			n, err := write(fd, buffer)
			if err != nil {
				return total, err
			}
			total += n
		}
		return total, nil
	})
}

// sink takes all there is on each flow.
func (p *peer) sink() (count, error) {
	return p.transfer(p.accept, func(fd int, buffer []byte) (total int, err error) {
		for {
			n, err := read(fd, buffer)
			if n == 0 || err != nil {
				return total, err
			}
			total += n
		}
	})
}

// transfer opens each flow and counts the bytes that run moves.
func (p *peer) transfer(open func() (int, error), run func(fd int, buffer []byte) (int, error)) (count, error) {
	return p.flows(func() (int, error) {
		fd, err := open()
		if err != nil {
			return 0, err
		}
		defer unix.Close(fd)
		p.began()
		return run(fd, make([]byte, bufferLength))
	})
}

// flows runs one function for each flow, each on a thread of its own, and adds up. The time begins with the first of them.
func (p *peer) flows(fn func() (int, error)) (count, error) {
	var c count
	var lock sync.Mutex
	var failed []error
	var all sync.WaitGroup
	for range p.load.flows {
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			n, err := fn()
			lock.Lock()
			defer lock.Unlock()
			c.N += n
			failed = append(failed, err)
		})
	}
	all.Wait()
	c.Took = time.Since(p.first)
	return c, errors.Join(failed...)
}

const packetLength = 64

// fire sends packets. One that the kernel has no room for is lost like any other.
func (p *peer) fire() (count, error) {
	fd, err := p.connect()
	if err != nil {
		return count{}, err
	}
	defer unix.Close(fd)
	var c count
	packet := make([]byte, packetLength)
	start := time.Now()
	for c.Took = 0; c.Took < p.time; c.Took = time.Since(start) {
		const batch = 32 // between looks at the clock
		for range batch {
			_, err := write(fd, packet)
			if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.ECONNREFUSED) {
				return c, err
			}
			c.N++
		}
	}
	return c, nil
}

// hear counts packets, from the first to the last, until its standard input ends and no more come.
func (p *peer) hear() (count, error) {
	const quiet = 20 * time.Millisecond
	patience := unix.NsecToTimeval(int64(quiet))
	if err := unix.SetsockoptTimeval(p.listen, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		return count{}, err
	}
	over := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(over)
	}()
	var c count
	var first, last time.Time
	packet := make([]byte, packetLength)
	for {
		_, err := read(p.listen, packet)
		switch {
		case err == nil:
			if c.N == 0 {
				first = time.Now()
			}
			c.N++
			if c.N%16 == 0 {
				last = time.Now()
			}
			continue
		case !errors.Is(err, unix.EAGAIN):
			return c, err
		}
		select {
		case <-over:
			c.Took = last.Sub(first)
			return c, nil
		default:
		}
	}
}

// ask counts answers to its questions.
func (p *peer) ask() (count, error) {
	fd, err := p.connect()
	if err != nil {
		return count{}, err
	}
	defer unix.Close(fd)
	return p.repeat(func() error { return exchange(fd) })
}

// answer gives each byte back until there are no more.
func (p *peer) answer() (count, error) {
	fd, err := p.accept()
	if err != nil {
		return count{}, err
	}
	defer unix.Close(fd)
	buffer := make([]byte, 1)
	for {
		n, err := read(fd, buffer)
		if n == 0 || err != nil {
			return count{}, err
		}
		if _, err := write(fd, buffer); err != nil {
			return count{}, err
		}
	}
}

// visit makes a connection for each question.
func (p *peer) visit() (count, error) {
	return p.repeat(func() error {
		fd, err := p.connect()
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return exchange(fd)
	})
}

// greet answers one question of each that comes, until its standard input ends.
func (p *peer) greet() (count, error) {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = unix.Shutdown(p.listen, unix.SHUT_RDWR)
	}()
	buffer := make([]byte, 1)
	for {
		fd, err := p.accept()
		if errors.Is(err, unix.EINVAL) {
			return count{}, nil
		}
		if err != nil {
			return count{}, err
		}
		n, err := read(fd, buffer)
		if n == 1 {
			_, err = write(fd, buffer)
			if err == nil {
				_, err = read(fd, buffer) // the visitor closes first
			}
		}
		_ = unix.Close(fd)
		if err != nil {
			return count{}, err
		}
	}
}

// repeat counts how often fn can be done. The first time does not count: it finds neighbours and routes.
func (p *peer) repeat(fn func() error) (count, error) {
	if err := fn(); err != nil {
		return count{}, err
	}
	var c count
	for start := time.Now(); c.Took < p.time; c.Took = time.Since(start) {
		if err := fn(); err != nil {
			return c, fmt.Errorf("after %s: %w", strconv.Itoa(c.N), err)
		}
		c.N++
	}
	return c, nil
}

// exchange asks and waits for the answer.
func exchange(fd int) error {
	var b [1]byte
	if _, err := write(fd, b[:]); err != nil {
		return err
	}
	n, err := read(fd, b[:])
	if err == nil && n == 0 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// read and write make plain system calls: the runtime is not told that the thread may wait, which would cost as much as
// some of what is measured.
func read(fd int, b []byte) (int, error)  { return raw(unix.SYS_READ, fd, b) }
func write(fd int, b []byte) (int, error) { return raw(unix.SYS_WRITE, fd, b) }
