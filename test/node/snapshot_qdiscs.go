package node

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// qdiscLines lists queueing disciplines, without those the kernel gives every interface, and the filters on what an
// interface receives.
func (o observation) qdiscLines() ([]string, error) {
	var lines []string
	for _, link := range o.links {
		name := link.Attrs().Name
		qdiscs, err := netlink.QdiscList(link)
		if err != nil {
			return nil, err
		}
		for _, q := range qdiscs {
			line := fmt.Sprintf("qdisc %s %s dev %s", q.Type(), netlink.HandleStr(q.Attrs().Handle), name)
			if tbf, ok := q.(*netlink.Tbf); ok {
				line += fmt.Sprintf(" rate %d limit %d", tbf.Rate, tbf.Limit)
			}
			if q.Attrs().Handle != 0 {
				lines = append(lines, line)
			}
		}
		filters, err := netlink.FilterList(link, netlink.HANDLE_MIN_INGRESS)
		if err != nil {
			return nil, err
		}
		for _, f := range filters {
			line := fmt.Sprintf("filter %s dev %s", f.Type(), name)
			if bpf, ok := f.(*netlink.BpfFilter); ok {
				line += " " + bpf.Name
			}
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// usualGSO is GSO_LEGACY_MAX_SIZE of include/linux/netdevice.h, what an interface begins with.
const usualGSO = 1 << 16
