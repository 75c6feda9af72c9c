package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/plan"
)

// applySysctl reads first and writes only what differs: many are right already, and some writes take the RTNL lock. Of an
// interface that this call made nothing has to be kept, and nothing is to be taken back.
func (n *Node) applySysctl(s plan.Sysctl) (created bool, err error) {
	if n.asWanted(s) {
		return false, nil
	}
	err = n.in(s.Place, func() error {
		if n.side(s.Place).ownSysctl(s.Key) {
			err := n.settings.write(s.Key, s.Value)
			if errors.Is(err, fs.ErrNotExist) && s.IfPresent {
				return nil
			}
			return lacksIPv6(s.Key, err)
		}
		now, err := n.settings.read(s.Key)
		if errors.Is(err, fs.ErrNotExist) && s.IfPresent {
			return nil
		}
		if err != nil {
			return lacksIPv6(s.Key, err)
		}
		if now == s.Value {
			return nil
		}
		created = true
		if s.Place == plan.Host {
			n.before[s.Key] = now
		}
		err = n.settings.write(s.Key, s.Value)
		if errors.Is(err, fs.ErrNotExist) && s.IfPresent {
			created = false
			return nil
		}
		if err != nil {
			return fmt.Errorf("set it from %s to %s: %w", now, s.Value, err)
		}
		return nil
	})
	return created, err
}

// lacksIPv6 says what it means that a setting of IPv6 is not there when none is: the kernel was built without IPv6, or
// booted with ipv6.disable=1.
func lacksIPv6(key string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(key, "net/ipv6/") {
		return err
	}
	if _, other := os.Stat(filepath.Join(sysctls, "net/ipv6/conf")); other == nil {
		return err
	}
	return cnierr.Wrap(cnierr.FeatureMissing, err,
		"IPv6 is not in this kernel: want CONFIG_IPV6, and no ipv6.disable=1 at boot")
}

// undoSysctl puts back what a setting of the host was before this Node changed it.
func (n *Node) undoSysctl(s plan.Sysctl) error {
	before, ok := n.before[s.Key]
	if !ok || s.Place != plan.Host {
		return nil
	}
	return n.settings.write(s.Key, before)
}

func (n *Node) observeSysctl(s plan.Sysctl) (got plan.Object, err error) {
	err = n.in(s.Place, func() error {
		now, err := n.settings.read(s.Key)
		if errors.Is(err, fs.ErrNotExist) && s.IfPresent {
			now, err = s.Value, nil
		}
		got = plan.Sysctl{Place: s.Place, Key: s.Key, Value: now}
		return err
	})
	return got, err
}

// Setting reads a sysctl of the host.
func (n *Node) Setting(key string) (string, error) { return n.settings.read(key) }
