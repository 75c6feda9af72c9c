package stack

import (
	"runtime"
	"sync"
	"testing"
)

// The runtime counts stacks in spans of 32 KiB, and takes back what is left of another as it grows one: of a single
// goroutine that may be all that there is to see.
func TestNeedGrowsTheStack(t *testing.T) {
	const many, less = 64, 16 << 10 // a stack's size is a power of two
	var ready, grown, done sync.WaitGroup
	start, end := make(chan struct{}), make(chan struct{})
	for range many {
		ready.Add(1)
		grown.Add(1)
		done.Go(func() {
			ready.Done()
			<-start
			need(false)
			grown.Done()
			<-end
		})
	}
	ready.Wait()
	before := inUse()
	close(start)
	grown.Wait()
	after := inUse()
	close(end)
	done.Wait()
	if after < before+many*less {
		t.Errorf("%d stacks take %d bytes, before %d: want %d more at least", many, after, before, many*less)
	}
}

func inUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.StackInuse
}
