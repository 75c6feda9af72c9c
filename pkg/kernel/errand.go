package kernel

import (
	"errors"
	"syscall"

	"github.com/vishvananda/netlink/nl"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// errand is an object that takes a single request, for which nothing has to be looked up first. Several of one namespace
// go to the kernel together.
type errand struct {
	object plan.Object
	side   *side
	req    *nl.NetlinkRequest
	judge  func(error) (created bool, err error) // what the kernel's answer means; nil: no error means created
}

// ApplyAll is Apply for objects in their order, with as few system calls as that takes. It returns those it created, also
// when it fails. One that fails does not keep the kernel from those that were sent along with it.
func (n *Node) ApplyAll(objects []plan.Object) (created []plan.Object, err error) {
	for len(objects) > 0 {
		errands, err := n.errands(objects)
		if err != nil {
			return created, err
		}
		done := max(len(errands), 1)
		var made []plan.Object
		switch {
		case len(errands) > 0:
			made, err = send(errands)
		case insideSysctl(objects[0]):
			done = n.series(objects)
			err = n.Inside(func() error { made, err = n.applyEach(objects[:done]); return err })
		default:
			made, err = n.applyEach(objects[:1])
		}
		created = append(created, made...)
		if err != nil {
			return created, err
		}
		objects = objects[done:]
	}
	return created, nil
}

// applyEach applies what is no errand.
func (n *Node) applyEach(objects []plan.Object) (created []plan.Object, err error) {
	for _, o := range objects {
		made, err := n.applyAlone(o)
		if made {
			created = append(created, o)
		}
		if err != nil {
			return created, err
		}
	}
	return created, nil
}

// series is how many objects at the beginning are files of the container, which are written on one visit.
func (n *Node) series(objects []plan.Object) int {
	count := 0
	for count < len(objects) && insideSysctl(objects[count]) {
		if e, err := n.errand(objects[count]); err != nil || e.req != nil {
			break
		}
		count++
	}
	return count
}

func insideSysctl(o plan.Object) bool {
	s, ok := o.(plan.Sysctl)
	return ok && s.Place == plan.Container
}

// together is how many errands go to the kernel with one system call, at most. It queues all answers before that returns, and
// the socket's queues are finite: a hundred routes and more are a matter of configuration.
const together = 32

// errands are those at the beginning of objects that go to one namespace.
func (n *Node) errands(objects []plan.Object) (list []errand, err error) {
	for _, o := range objects[:min(len(objects), together)] {
		e, err := n.errand(o)
		if err != nil {
			return nil, cnierr.Wrap(cnierr.KernelRefused, err, "%s", o.ID())
		}
		if e.req == nil || len(list) > 0 && list[0].side != e.side {
			break
		}
		e.object = o
		list = append(list, e)
	}
	return list, nil
}

// errand is the one request that an object takes, if it takes no more.
func (n *Node) errand(o plan.Object) (errand, error) {
	switch o := o.(type) {
	case plan.Interface:
		return n.interfaceErrand(o)
	case plan.Address:
		return n.addressErrand(o)
	case plan.Route:
		return n.routeErrand(o)
	case plan.Neighbour:
		return n.neighbourErrand(o)
	case plan.Sysctl:
		return n.sysctlErrand(o)
	}
	return errand{}, nil
}

// send has the kernel carry out errands of one namespace.
func send(errands []errand) (created []plan.Object, failed error) {
	reqs := make([]*nl.NetlinkRequest, len(errands))
	for i, e := range errands {
		reqs[i] = e.req
	}
	answers, err := errands[0].side.socket.exchange(reqs...)
	if err != nil {
		return nil, cnierr.Wrap(cnierr.KernelRefused, err, "%s", errands[0].object.ID())
	}
	for i, e := range errands {
		made, err := answers[i].err == nil, answers[i].err
		if e.judge != nil {
			made, err = e.judge(err)
		}
		if made {
			created = append(created, e.object)
		}
		if err != nil && failed == nil {
			failed = cnierr.Wrap(cnierr.KernelRefused, err, "%s", e.object.ID())
		}
	}
	return created, failed
}

// unlessThere takes an object that is there already for one that need not be made.
func unlessThere(err error) (bool, error) {
	if errors.Is(err, syscall.EEXIST) {
		return false, nil
	}
	return err == nil, err
}
