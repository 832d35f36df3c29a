#include "textflag.h"

// func call(number, a1, a2, a3, a4, a5, a6 uintptr) (result, errno uintptr)
TEXT ·call(SB),NOSPLIT,$0-72
	MOVQ	number+0(FP), AX
	MOVQ	a1+8(FP), DI
	MOVQ	a2+16(FP), SI
	MOVQ	a3+24(FP), DX
	MOVQ	a4+32(FP), R10
	MOVQ	a5+40(FP), R8
	MOVQ	a6+48(FP), R9
	SYSCALL
	CMPQ	AX, $-4095
	JCC	failed
	MOVQ	AX, result+56(FP)
	MOVQ	$0, errno+64(FP)
	RET
failed:
	NEGQ	AX
	MOVQ	$-1, result+56(FP)
	MOVQ	AX, errno+64(FP)
	RET

TEXT ·callAddress(SB),NOSPLIT,$0-8
	LEAQ	·call(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

// func cloneRun(args *cloneArgs, size uintptr, p *image, code uintptr) (pid, errno uintptr)
TEXT ·cloneRun(SB),NOSPLIT,$0-48
	MOVQ	args+0(FP), DI
	MOVQ	size+8(FP), SI
	MOVQ	p+16(FP), R12
	MOVQ	code+24(FP), R13
	MOVQ	$435, AX // clone3
	SYSCALL
	TESTQ	AX, AX
	JEQ	child
	CMPQ	AX, $-4095
	JCC	failed
	MOVQ	AX, pid+32(FP)
	MOVQ	$0, errno+40(FP)
	RET
failed:
	NEGQ	AX
	MOVQ	$-1, pid+32(FP)
	MOVQ	AX, errno+40(FP)
	RET
child:
	// On its own stack. Go's code has g in R14, or loads it from the thread-local storage: it gets the image's first bytes. It
	// is called as Go calls it, without what lies between assembly and Go, which has calls of the race detector in it.
	MOVQ	TLS, CX
	MOVQ	R12, 0(CX)(TLS*1)
	MOVQ	R12, R14
	XORPS	X15, X15
	MOVQ	R12, AX
	PUSHQ	AX // where the argument may be put
	CALL	R13
	INT	$3
