//go:build amd64 || arm64

package kernel

// clone is clone(2) on the stack of the caller. It returns the child's number or a negative errno. The child carries out
// a list of system calls, which must end with exit_group(2), and touches neither the stack nor anything of Go's.
//
//go:noescape
func clone(flags uintptr, list *syscallArgs) int
