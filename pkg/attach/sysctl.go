package attach

import (
	"errors"
	"io/fs"
	"os"

	"github.com/veth-cni/veth/pkg/cnierr"
	"github.com/veth-cni/veth/pkg/netconf"
)

// allowed holds the configuration's sysctls to the node's allow list at path, where there is one.
func allowed(cfg *netconf.Config, path string) error {
	if len(cfg.Tuning.Sysctls) == 0 {
		return nil
	}
	list, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return cnierr.Wrap(cnierr.IOFailure, err, "sysctl: the node's allow list cannot be read")
	}
	return cfg.AllowSysctls(string(list))
}

// contained refuses sysctls for a container that shares the host's network namespace: they would be the host's.
func (m *machine) contained(cfg *netconf.Config) error {
	if len(cfg.Tuning.Sysctls) == 0 {
		return nil
	}
	own, err := m.node.OwnNamespace()
	if err == nil && own {
		err = cnierr.New(cnierr.InvalidNetNS, "CNI_NETNS: %q is the host's own network namespace, where sysctl is not allowed",
			cfg.Attachment.Netns)
	}
	return err
}
