package plan

import "testing"

// No network's group is the one that GC deletes with all that is in it, checked or not.
func TestGroup(t *testing.T) {
	t.Parallel()
	for _, network := range []string{
		"", "podnet",
		"net4731929", // whose hash has nothing but zeros where the group takes its bits from
	} {
		g := Group(network)
		if g&GroupsMask != Groups || g&GroupChecked != 0 {
			t.Errorf("the group of %q is %#x: want a network's, unchecked", network, g)
		}
		if g|GroupChecked == GroupDoomed {
			t.Errorf("the group of %q is that of the doomed", network)
		}
	}
}
