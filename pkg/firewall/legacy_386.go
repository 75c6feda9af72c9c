package firewall

// Sizes where the C ABI aligns 64 bit words, which counters are, to four bytes.
const (
	entriesHeader = 36  // struct ipt_get_entries, before the entries
	entry6        = 164 // struct ip6t_entry
)
