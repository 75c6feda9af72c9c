package firewall

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/veth-cni/veth/pkg/cnierr"
)

// explain makes a sentence of what came of a message: FeatureMissing when the kernel does not know what the message
// asks for, KernelRefused otherwise. The errno stays for errors.Is.
func explain(m message, err error) error {
	switch {
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return cnierr.Wrap(cnierr.KernelRefused, err,
			"%s: may not %s: the plugin needs CAP_NET_ADMIN in the host's network namespace", m.subject(), m.what)
	case m.needs != "" && m.unknown(err):
		return cnierr.Wrap(cnierr.FeatureMissing, err,
			"%s: this kernel cannot %s: it lacks %s", m.subject(), m.what, m.needs)
	}
	return cnierr.Wrap(cnierr.KernelRefused, err, "%s: cannot %s", m.subject(), m.what)
}

// subject is the table that a message is about, or all of them.
func (m message) subject() string {
	switch {
	case m.others:
		return "nftables"
	case len(m.data) == 0: // it never came to a message
		return tableTitle(tableFamily)
	}
	return tableTitle(m.data[0])
}

// unknown reports whether the kernel refused because it does not have what the message is about: sockets of a protocol,
// a family of tables, a type of chain or of expression (ENOENT), or nf_tables itself, which is EINVAL to a reader.
func (m message) unknown(err error) bool {
	for _, errno := range []error{unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EOPNOTSUPP, unix.ENOENT} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return m.needs == needsTables && errors.Is(err, unix.EINVAL)
}
