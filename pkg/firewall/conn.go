package firewall

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// conn is a netlink socket to nfnetlink, opened at its first use. After any error but ENOENT it is closed, and the next
// use opens another: what the kernel still had to say to the old one is not mistaken for an answer.
type conn struct {
	socket transport
	unread []*socket // those with the rest of a list that nobody wants
}

// transport is what conn needs of a socket.
type transport interface {
	send(msgs []message) error
	receive(answers []answer, most int) ([]answer, error)
	close()
}

func (c *conn) open() error {
	if c.socket != nil {
		return nil
	}
	s, err := newSocket()
	if err != nil {
		return explain(message{what: "open a netlink socket", needs: needsNetlink}, err)
	}
	c.socket = s
	return nil
}

func (c *conn) close() {
	if c.socket != nil {
		c.socket.close()
		c.socket = nil
	}
	for _, s := range c.unread {
		s.close()
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

func (c *conn) batch(generation uint32, msgs []message, end ...message) error {
	var guard encoder
	guard.uint32(unix.NFNL_BATCH_GENID, generation)
	begin := marker(unix.NFNL_MSG_BATCH_BEGIN)
	begin.data = append(begin.data, guard.bytes...)
	begin.what, begin.needs = msgs[0].what, msgs[0].needs
	// Who is refused is told so in any case. Only the last is told as well that all is done: it is said to each in a
	// datagram of its own.
	for i := range msgs[:len(msgs)-1] {
		msgs[i].flags &^= unix.NLM_F_ACK
	}
	if err := c.send(slices.Concat([]message{begin}, msgs, end)); err != nil {
		return err
	}
	refused := msgs[0] // also of a batch refused as a whole
	answers, err := c.socket.receive(nil, longestAnswer)
	if err == nil {
		err = answers[0].verdict()
		if place := answers[0].about() - 1; place > 0 && place < len(msgs) { // begin is before them
			refused = msgs[place]
		}
	}
	if err != nil {
		c.close()
		return explain(refused, err)
	}
	return nil
}

// ask sends requests together and returns one answer for each.
func (c *conn) ask(requests []message) ([]answer, error) {
	if err := c.send(requests); err != nil {
		return nil, err
	}
	answers := make([]answer, 0, len(requests))
	for i, r := range requests {
		var err error
		if answers, err = c.socket.receive(answers, longestAnswer); err == nil {
			err = answers[i].verdict()
		}
		switch {
		case errors.Is(err, unix.ENOENT):
			answers[i] = answer{}
		case err != nil:
			c.close()
			return nil, explain(r, err)
		}
	}
	return answers, nil
}

// dump sends one request for a list. EINTR says that the ruleset changed while the kernel listed it. A list of
// something that does not exist is empty.
func (c *conn) dump(request message) ([]answer, error) {
	if err := c.send([]message{request}); err != nil {
		return nil, err
	}
	var list []answer
	for {
		var err error
		if list, err = c.socket.receive(list, longestPart); err == nil {
			err = list[len(list)-1].verdict()
		}
		if errors.Is(err, unix.ENOENT) {
			return nil, nil
		}
		if err != nil {
			c.close()
			return nil, explain(request, err)
		}
		if last := len(list) - 1; list[last].kind == unix.NLMSG_DONE {
			if slices.ContainsFunc(list, func(a answer) bool { return a.flags&unix.NLM_F_DUMP_INTR != 0 }) {
				return nil, explain(request, unix.EINTR)
			}
			return list[:last], nil
		}
	}
}

func (c *conn) send(requests []message) error {
	if err := c.open(); err != nil {
		return err
	}
	for _, r := range requests {
		if r.err != nil {
			return explain(r, r.err)
		}
	}
	if err := c.socket.send(requests); err != nil {
		c.close()
		return explain(requests[0], err)
	}
	return nil
}

// marker is the message that begins or ends a batch of nftables messages.
func marker(kind uint16) message {
	header := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES} // struct nfgenmsg
	return message{kind: kind, data: header}
}
