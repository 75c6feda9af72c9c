package stack

import (
	"runtime"
	"testing"
)

func TestNeedGrowsTheStack(t *testing.T) {
	grown := make(chan uint64)
	go func() {
		before := inUse()
		need(false)
		grown <- inUse() - before
	}()
	if n := <-grown; n < 32<<10 {
		t.Errorf("stacks take %d bytes more than before, want 32768 or more", n)
	}
}

func inUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.StackInuse
}
