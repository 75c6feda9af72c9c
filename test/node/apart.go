package node

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Apart runs steps on a thread with a mount namespace of its own, which ends with it, up to the first that fails. A
// process that one of them starts stays in that namespace.
func Apart(steps ...func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
				return fmt.Errorf("a mount namespace: %w", err)
			}
			for _, step := range steps {
				if err := step(); err != nil {
					return err
				}
			}
			return nil
		}()
	}()
	return <-done
}
