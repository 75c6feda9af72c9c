package firewall

import (
	"errors"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// conn is a netlink socket to nfnetlink, opened at its first use. After any error but ENOENT it is closed, and the next
// use opens another: what the kernel still had to say to the old one is not mistaken for an answer.
type conn struct {
	nl     *netlink.Conn
	socket *socket   // nl's
	unread []*socket // those with the rest of a list that nobody wants
}

func (c *conn) open() error {
	if c.nl != nil {
		return nil
	}
	s, err := newSocket()
	if err != nil {
		return explain(message{what: "open a netlink socket", needs: needsNetlink}, err)
	}
	c.nl, c.socket = netlink.NewConn(s, 0), s
	return nil
}

func (c *conn) close() {
	if c.nl != nil {
		_ = c.nl.Close()
		c.nl, c.socket = nil, nil
	}
	for _, s := range c.unread {
		_ = s.Close()
	}
	c.unread = nil
}

// commit has the kernel carry out messages as one transaction, provided that the ruleset still has the generation they
// were decided on. ERESTART says that it has not (nf_tables_valid_genid in net/netfilter/nf_tables_api.c).
func (c *conn) commit(generation uint32, msgs []message) error {
	return c.batch(generation, msgs, marker(unix.NFNL_MSG_BATCH_END))
}

// rehearse is commit without the message that ends a batch: the kernel does all it does for commit and then undoes it
// (nfnetlink_rcv_batch in net/netfilter/nfnetlink.c).
func (c *conn) rehearse(generation uint32, msgs []message) error {
	return c.batch(generation, msgs)
}

func (c *conn) batch(generation uint32, msgs []message, end ...netlink.Message) error {
	if err := c.open(); err != nil {
		return err
	}
	guard, err := encode(func(ae *netlink.AttributeEncoder) { ae.Uint32(unix.NFNL_BATCH_GENID, generation) })
	if err != nil {
		return explain(msgs[0], err)
	}
	begin := marker(unix.NFNL_MSG_BATCH_BEGIN)
	begin.Data = append(begin.Data, guard...)
	batch := []netlink.Message{begin}
	for _, m := range msgs {
		if m.err != nil {
			return explain(m, m.err)
		}
		batch = append(batch, m.Message)
	}
	if _, err := c.nl.SendMessages(append(batch, end...)); err != nil {
		c.close()
		return explain(msgs[0], err)
	}
	// One acknowledgement for each message, in their order. A batch that is refused as a whole gets a single one.
	for _, m := range msgs {
		if _, err := c.nl.Receive(); err != nil {
			c.close()
			return explain(m, err)
		}
	}
	return nil
}

// ask sends requests together and returns one answer for each, nil for what does not exist.
func (c *conn) ask(requests []message) ([]*netlink.Message, error) {
	if err := c.send(requests); err != nil {
		return nil, err
	}
	answers := make([]*netlink.Message, len(requests))
	for i, r := range requests {
		answer, err := c.nl.Receive()
		switch {
		case errors.Is(err, unix.ENOENT):
		case err != nil:
			c.close()
			return nil, explain(r, err)
		case len(answer) > 0:
			answers[i] = &answer[0]
		}
	}
	return answers, nil
}

// dump sends one request for a list. EINTR says that the ruleset changed while the kernel listed it. A list of
// something that does not exist is empty.
func (c *conn) dump(request message) ([]netlink.Message, error) {
	if err := c.send([]message{request}); err != nil {
		return nil, err
	}
	list, err := c.nl.Receive()
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		c.close()
		return nil, explain(request, err)
	}
	for _, m := range list {
		if m.Header.Flags&netlink.DumpInterrupted != 0 {
			return nil, explain(request, unix.EINTR)
		}
	}
	return list, nil
}

func (c *conn) send(requests []message) error {
	if err := c.open(); err != nil {
		return err
	}
	msgs := make([]netlink.Message, len(requests))
	for i, r := range requests {
		if r.err != nil {
			return explain(r, r.err)
		}
		msgs[i] = r.Message
	}
	if _, err := c.nl.SendMessages(msgs); err != nil {
		c.close()
		return explain(requests[0], err)
	}
	return nil
}

// marker is the message that begins or ends a batch of nftables messages.
func marker(kind netlink.HeaderType) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request},
		Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}, // struct nfgenmsg
	}
}
