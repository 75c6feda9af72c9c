// Package stack gives the main goroutine a stack of 32 KiB before anything else. The runtime gives it 2 KiB and doubles
// that whenever it runs out, each time with a search through its tables for what is on the old stack and where the
// pointers are. In a process that lives for milliseconds nothing of this is in memory yet, and the pages that it touches
// cost a thirtieth of a call.
package stack

// Of packages whose imports are initialised, the first by path is next (The Go Programming Language Specification,
// "Program initialization"). This one has none, and so comes before nearly all others.
func init() { need(false) }

// need has the room in its frame, which the stack must have space for, whether or not it is used. Room that is not used
// is memory that is not touched.
//
//go:noinline
func need(used bool) {
	if used {
		var room [20 << 10]byte
		use(&room)
	}
}

//go:noinline
func use(room *[20 << 10]byte) { room[0]++ }
