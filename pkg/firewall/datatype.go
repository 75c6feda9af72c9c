package firewall

// datatype is a type of a set's keys or data. The kernel knows the size alone; the number and the name are for nft
// (enum datatypes in include/datatype.h of nftables).
type datatype struct {
	name   string
	number uint32
	size   uint32 // in bytes
}

var (
	typeVerdict     = datatype{name: "verdict", number: 1}
	typeIPAddr      = datatype{"ipv4_addr", 7, 4}
	typeIP6Addr     = datatype{"ipv6_addr", 8, 16}
	typeInetProto   = datatype{"inet_proto", 12, 1}
	typeInetService = datatype{"inet_service", 13, 2}
	typeIFIndex     = datatype{"iface_index", 20, 4}
	typeDevGroup    = datatype{"devgroup", 35, 4}
	typeIFName      = datatype{"ifname", 41, 16}
)

// concatenation is the type of several values, each in registers of its own. Of its number each value's has six bits
// (TYPE_BITS of nftables).
func concatenation(first datatype, more ...datatype) datatype {
	const register = 4 // bytes
	fill := func(size uint32) uint32 { return (size + register - 1) / register * register }
	t := datatype{first.name, first.number, fill(first.size)}
	for _, next := range more {
		t.name += " . " + next.name
		t.number = t.number<<6 | next.number
		t.size += fill(next.size)
	}
	return t
}
