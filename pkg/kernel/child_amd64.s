#include "textflag.h"

// func clone(flags uintptr, list *syscallArgs) int
TEXT ·clone(SB), NOSPLIT|NOFRAME, $0-24
	MOVQ flags+0(FP), DI
	MOVQ list+8(FP), R12
	XORL SI, SI // the stack: the same
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	MOVL $56, AX // SYS_clone
	SYSCALL
	TESTQ AX, AX
	JZ child
	MOVQ AX, ret+16(FP)
	RET
child:
	MOVQ 0(R12), AX
	MOVQ 8(R12), DI
	MOVQ 16(R12), SI
	MOVQ 24(R12), DX
	SYSCALL
	ADDQ $32, R12
	JMP child
