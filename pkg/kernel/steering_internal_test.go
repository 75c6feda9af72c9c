package kernel

import (
	"slices"
	"testing"

	"github.com/veth-cni/veth/pkg/netconf"
)

// TestMask: the kernel's words of a bitmap, the highest first, and back.
func TestMask(t *testing.T) {
	for _, tt := range []struct {
		cpus netconf.CPUs
		text string
	}{
		{netconf.CPUs{0}, "00000001"},
		{netconf.CPUs{0, 1, 31}, "80000003"},
		{netconf.CPUs{32}, "00000001,00000000"},
		{netconf.CPUs{3, 64, 95}, "80000001,00000000,00000008"},
		{nil, "00000000"},
	} {
		if got := mask(tt.cpus); got != tt.text {
			t.Errorf("%s is %s, want %s", tt.cpus, got, tt.text)
		}
		if got, err := unmask(tt.text); err != nil || !slices.Equal(got, tt.cpus) {
			t.Errorf("%s is %s, %v, want %s", tt.text, got, err, tt.cpus)
		}
	}
	if got, err := unmask("3"); err != nil || got.String() != "0-1" {
		t.Errorf("a short word is %s, %v, want 0-1", got, err)
	}
	if _, err := unmask("x"); err == nil {
		t.Error("no error for what is no number")
	}
}
