package process

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/veth-cni/veth/pkg/convert"
)

// A chain of reference plugins, converted, does what a runtime asks of it with the one plugin.
func TestConvertedChainWorks(t *testing.T) {
	t.Parallel()
	chain, err := os.ReadFile("../../conf/80-reference-chain.conflist")
	if err != nil {
		t.Fatal(err)
	}
	converted, err := convert.Convert(chain)
	if err != nil {
		t.Fatal(err)
	}
	if !converted.Complete() {
		t.Errorf("something was lost: %v", converted.Remarks)
	}
	var list conflist
	if err := json.Unmarshal(converted.List, &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Plugins) != 1 {
		t.Fatalf("%d plugins are left, want 1:\n%s", len(list.Plugins), converted.List)
	}
	if !machinesRoot(t) {
		t.Skip("the converted chain limits what a container sends, which needs the machine's root")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "converted.conflist"), converted.List, 0o600); err != nil {
		t.Fatal(err)
	}
	list.exercise(t, dir)
}
