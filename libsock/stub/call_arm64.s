#include "textflag.h"

// func call(number, a1, a2, a3, a4, a5, a6 uintptr) (result, errno uintptr)
TEXT ·call(SB),NOSPLIT,$0-72
	MOVD	number+0(FP), R8
	MOVD	a1+8(FP), R0
	MOVD	a2+16(FP), R1
	MOVD	a3+24(FP), R2
	MOVD	a4+32(FP), R3
	MOVD	a5+40(FP), R4
	MOVD	a6+48(FP), R5
	SVC
	CMN	$4095, R0
	BCS	failed
	MOVD	R0, result+56(FP)
	MOVD	ZR, errno+64(FP)
	RET
failed:
	MOVD	$-1, R4
	MOVD	R4, result+56(FP)
	NEG	R0, R0
	MOVD	R0, errno+64(FP)
	RET

TEXT ·callAddress(SB),NOSPLIT,$0-8
	MOVD	$·call(SB), R0
	MOVD	R0, ret+0(FP)
	RET

// func cloneRun(args *cloneArgs, size uintptr, p *image, code uintptr) (pid, errno uintptr)
TEXT ·cloneRun(SB),NOSPLIT,$0-48
	MOVD	args+0(FP), R0
	MOVD	size+8(FP), R1
	MOVD	p+16(FP), R9
	MOVD	code+24(FP), R10
	MOVD	$435, R8 // clone3
	SVC
	CBZ	R0, child
	CMN	$4095, R0
	BCS	failed
	MOVD	R0, pid+32(FP)
	MOVD	ZR, errno+40(FP)
	RET
failed:
	MOVD	$-1, R4
	MOVD	R4, pid+32(FP)
	NEG	R0, R0
	MOVD	R0, errno+40(FP)
	RET
child:
	// On its own stack, with a g of its own, the image's first bytes. It is called as Go calls it, without what lies between
	// assembly and Go, which has calls of the race detector in it.
	MOVD	R9, g
	MOVD	R9, R0
	SUB	$32, RSP // where the argument may be put
	CALL	(R10)
	BRK
