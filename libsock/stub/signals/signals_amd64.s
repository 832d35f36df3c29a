#include "textflag.h"

// handler(signal) writes the signal's number, as one byte, to writeEnd. It is called by the kernel with C's registers and
// may change them all: rt_sigreturn restores them. RET goes to the restorer, whose address the kernel pushed.
TEXT ·handler(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	SUBQ	$8, SP
	MOVB	DI, 0(SP)
	MOVLQSX	·writeEnd(SB), DI
	MOVQ	SP, SI
	MOVL	$1, DX
	MOVL	$1, AX // write
	SYSCALL
	ADDQ	$8, SP
	RET

TEXT ·restore(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVL	$15, AX // rt_sigreturn
	SYSCALL
	INT	$3 // not reached

TEXT ·handlerAddress(SB),NOSPLIT,$0-8
	LEAQ	·handler(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

TEXT ·restorerAddress(SB),NOSPLIT,$0-8
	LEAQ	·restore(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
