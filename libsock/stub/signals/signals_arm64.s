#include "textflag.h"

// handler(signal) writes the signal's number, as one byte, to writeEnd. It is called by the kernel with C's registers and
// may change them all: rt_sigreturn restores them. RET goes to the restorer, whose address is in the link register.
TEXT ·handler(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	SUB	$16, RSP
	MOVB	R0, 0(RSP)
	MOVW	·writeEnd(SB), R0
	MOVD	RSP, R1
	MOVD	$1, R2
	MOVD	$64, R8 // write
	SVC
	ADD	$16, RSP
	RET

TEXT ·restore(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVD	$139, R8 // rt_sigreturn
	SVC
	BRK	// not reached

TEXT ·handlerAddress(SB),NOSPLIT,$0-8
	MOVD	$·handler(SB), R0
	MOVD	R0, ret+0(FP)
	RET

TEXT ·restorerAddress(SB),NOSPLIT,$0-8
	MOVD	$·restore(SB), R0
	MOVD	R0, ret+0(FP)
	RET
