package main

import (
	"path/filepath"
	"slices"
)

// starts measures what a process costs before it does anything: each program answers VERSION.
func starts(rounds int) ([]string, samples, error) {
	paths := map[string]string{"floor": binaries.Floor, "veth": binaries.Veth}
	order := []string{"floor", "veth"}
	if binaries.Beside != "" {
		paths["veth, the other build"] = binaries.Beside
		order = append(order, "veth, the other build")
	}
	if binaries.Reference != "" {
		for _, name := range []string{"bridge", "host-local", "portmap"} {
			label := "reference, " + name
			paths[label] = filepath.Join(binaries.Reference, name)
			order = append(order, label)
		}
	}
	labels, out := slices.Clone(order), samples{}
	for round := range rounds + 1 {
		for _, label := range order {
			prepared := call{
				argv:  []string{paths[label]},
				env:   []string{"CNI_COMMAND=VERSION", "CNI_PATH=" + binaries.Reference},
				stdin: []byte(`{"cniVersion":"1.0.0"}`),
			}
			took, err := prepared.run()
			if err != nil {
				return nil, nil, err
			}
			if out[label] == nil {
				out[label] = &series{}
			}
			if round > 0 {
				out[label].add = append(out[label].add, milliseconds(took.took))
			}
		}
		slices.Reverse(order)
	}
	return labels, out, nil
}
