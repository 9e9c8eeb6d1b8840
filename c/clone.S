/*
 * long sys_clone_run(void *args, size_t size, void (*fn)(void *), void *arg)
 *
 * clone3 cannot be called from C when the child shares the parent's memory but has a stack of its own: the child
 * comes back from the system call with an empty stack, so there is no frame to return to. It calls fn(arg) instead.
 */
#include <asm/unistd.h>

	.text
	.globl sys_clone_run
	.hidden sys_clone_run
	.type sys_clone_run, @function
#if defined(__x86_64__)
sys_clone_run:
	mov	%rdx, %r8
	mov	%rcx, %r9
	mov	$__NR_clone3, %eax
	syscall
	test	%rax, %rax
	jnz	1f
	xor	%ebp, %ebp
	mov	%r9, %rdi
	call	*%r8
	ud2
1:	ret
#elif defined(__aarch64__)
sys_clone_run:
	mov	x9, x2
	mov	x10, x3
	mov	x8, #__NR_clone3
	svc	#0
	cbnz	x0, 1f
	mov	x29, #0
	mov	x30, #0
	mov	x0, x10
	blr	x9
	brk	#1
1:	ret
#endif
	.size sys_clone_run, .-sys_clone_run
	.section .note.GNU-stack, "", %progbits
