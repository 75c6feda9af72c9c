//go:build !386

package firewall

// Sizes where the C ABI aligns 64 bit words, which counters are, to eight bytes. Go itself does so on 64-bit machines alone.
const (
	entriesHeader = 40  // struct ipt_get_entries, before the entries
	entry6        = 168 // struct ip6t_entry
)
