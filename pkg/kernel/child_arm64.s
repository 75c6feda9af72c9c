#include "textflag.h"

// func clone(flags uintptr, list *syscallArgs) int
TEXT ·clone(SB), NOSPLIT|NOFRAME, $0-24
	MOVD flags+0(FP), R0
	MOVD list+8(FP), R19
	MOVD ZR, R1 // the stack: the same
	MOVD ZR, R2
	MOVD ZR, R3
	MOVD ZR, R4
	MOVD $220, R8 // SYS_clone
	SVC
	CBZ R0, child
	MOVD R0, ret+16(FP)
	RET
child:
	MOVD 0(R19), R8
	MOVD 8(R19), R0
	MOVD 16(R19), R1
	MOVD 24(R19), R2
	SVC
	ADD $32, R19
	B child
