package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/veth-cni/veth/test/node"
)

// epoch is when the clock of datagrams starts.
var epoch = time.Now()

// stream sends as much as it can from one namespace to an address of another.
type stream struct {
	network  string // "tcp" or "udp"
	from, to *node.Namespace
	addr     netip.Addr
	flows    int
	lasts    time.Duration
}

// received is what arrived of a stream, in bytes of payload. The clock starts before the first packet is sent.
type received struct {
	first int // in the first second
	total int
	took  time.Duration
	// waits is how long each datagram was under way. Sender and receiver are one process and have one clock.
	waits []time.Duration
}

// rate is the mean over the whole stream, in bits a second.
func (r received) rate() float64 { return float64(r.total) * 8 / r.took.Seconds() }

// run counts what arrives until the stream has lasted long enough.
func (s stream) run() (received, error) {
	sink, err := s.listen()
	if err != nil {
		return received{}, err
	}
	start := time.Now()
	end := start.Add(s.lasts)
	c := &counter{start: start}
	var wg sync.WaitGroup
	for range s.flows {
		wg.Go(func() { c.note(sink.receive(c, end)) })
		wg.Go(func() { c.note(s.send(sink.address, end)) })
	}
	wg.Wait()
	c.note(sink.close())
	c.took = s.lasts
	return c.received, errors.Join(c.failed...)
}

func (s stream) send(address string, end time.Time) error {
	var conn net.Conn
	err := s.from.Do(func() (err error) {
		conn, err = net.DialTimeout(s.network, address, 5*time.Second)
		return err
	})
	if err != nil {
		return fmt.Errorf("from %s: %w", s.from.Name, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(end); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	if s.network == "udp" {
		buf = buf[:1400]
	}
	for time.Now().Before(end) {
		binary.NativeEndian.PutUint64(buf, uint64(time.Since(epoch)))
		// For UDP a full queue is no reason to stop (ENOBUFS); for TCP a receiver that has seen the end first is.
		if _, err := conn.Write(buf); err != nil && s.network == "tcp" {
			break
		}
	}
	return nil
}

// sink is where a stream ends.
type sink struct {
	address   string
	datagrams bool
	accept    func() (net.Conn, error)
	close     func() error
}

func (s stream) listen() (to sink, err error) {
	here := netip.AddrPortFrom(s.addr, 0)
	err = s.to.Do(func() error {
		if s.network == "udp" {
			conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(here))
			if err != nil {
				return err
			}
			accept := func() (net.Conn, error) { return conn, nil }
			to = sink{conn.LocalAddr().String(), true, accept, func() error { return nil }}
			return conn.SetReadBuffer(4 << 20)
		}
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(here))
		if err == nil {
			to = sink{l.Addr().String(), false, l.Accept, l.Close}
		}
		return err
	})
	return to, err
}

func (s sink) receive(c *counter, end time.Time) error {
	conn, err := s.accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(end); err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for {
		n, err := conn.Read(buf)
		c.count(n)
		if s.datagrams && n > 0 {
			c.waited(time.Since(epoch) - time.Duration(binary.NativeEndian.Uint64(buf)))
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), err != nil && !time.Now().Before(end):
			return nil
		case err != nil:
			return fmt.Errorf("a stream broke: %w", err)
		}
	}
}

// counter adds up what the flows of a stream receive.
type counter struct {
	sync.Mutex
	received
	start  time.Time
	failed []error
}

func (c *counter) count(n int) {
	c.Lock()
	defer c.Unlock()
	c.total += n
	if time.Since(c.start) <= time.Second {
		c.first += n
	}
}

func (c *counter) waited(d time.Duration) {
	c.Lock()
	defer c.Unlock()
	c.waits = append(c.waits, d)
}

func (c *counter) note(err error) {
	c.Lock()
	defer c.Unlock()
	c.failed = append(c.failed, err)
}
