/*
 * libbunc.so: what TypeScript calls through bun:ffi. One entry point, `bunc`, takes the number of a system
 * call or one of enum bunc_call; all answer with a value >= 0 or -errno. It must be called from one thread
 * only.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/memfd.h>
#include <linux/mount.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/wait.h>
#include "interp.h"
#include "sys.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

/* bunc-init, as built; it never exists as a file on the host. */
__asm__(".section .rodata\n"
	".globl bunc_init_image, bunc_init_image_end\n"
	".hidden bunc_init_image, bunc_init_image_end\n"
	"bunc_init_image:\n\t.incbin \"" BUNC_INIT_PATH "\"\n"
	"bunc_init_image_end:\n\t.byte 0\n"
	".previous\n");
extern const char bunc_init_image[], bunc_init_image_end[];

static long run(uint8_t *base, size_t size, struct bunc_state *state)
{
	state->sync_fd = state->error_fd = -1;
	state->text_size = 0;
	long r = bunc_load(base, size);
	if (r < 0) {
		state->error = (int32_t)-r;
		state->index = size >= sizeof(struct bunc_part) ? ((struct bunc_part *)base)->first : 0;
		return r;
	}
	return bunc_execute(base, state) == BUNC_FAILED ? -state->error : 0;
}

/* The sealed copy that becomes the container's first process: nothing in a container can write to it. */
static long sealed_init(void)
{
	size_t size = (size_t)(bunc_init_image_end - bunc_init_image);
	long fd = sys2(__NR_memfd_create, "bunc-init", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	if (fd == -EINVAL) /* before Linux 6.3 every memfd is executable */
		fd = sys2(__NR_memfd_create, "bunc-init", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return fd;
	long r = bunc_write_all((int)fd, bunc_init_image, size);
	if (r == 0)
		r = sys3(__NR_fcntl, fd, F_ADD_SEALS,
			 F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	if (r < 0) {
		sys1(__NR_close, fd);
		return r;
	}
	return fd;
}

/* Of whichever child shares this process's memory: this process waits until it is gone. */
static uint64_t child_stack[8192] __attribute__((aligned(16)));

struct apart {
	uint8_t *base;
	size_t size;
	struct bunc_state *state;
	uint64_t flags;
	long result;
};

/* A process that ends has no memory any more, and with it nothing that hides it, while it still has its root
 * and descriptors: nothing of the host must be left there for who owns its user namespace. */
static void leave_host(void)
{
	sys1(__NR_unshare, CLONE_FILES);
	long fs = sys2(__NR_fsopen, "tmpfs", FSOPEN_CLOEXEC);
	sys5(__NR_fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0);
	if (sys1(__NR_fchdir, sys3(__NR_fsmount, fs, FSMOUNT_CLOEXEC, 0)) == 0)
		sys1(__NR_chroot, ".");
	sys3(__NR_close_range, 0, ~0u, 0);
}

static void apart_child(void *arg)
{
	struct apart *apart = arg;
	apart->result = run(apart->base, apart->size, apart->state);
	if (apart->flags & CLONE_NEWUSER)
		leave_host();
	for (;;)
		sys1(__NR_exit_group, 0);
}

/* The child has this process's memory and descriptors, but a working directory, root and namespaces of its
 * own: what it joins or leaves, this process does not. What it opens stays. */
static long run_apart(uint8_t *base, size_t size, struct bunc_state *state, uint64_t flags)
{
	struct apart apart = {.base = base, .size = size, .state = state, .flags = flags, .result = -ECHILD};
	struct clone_args args = {0};
	int pidfd = -1;
	args.flags = flags | CLONE_VM | CLONE_FILES | CLONE_VFORK | CLONE_PIDFD;
	args.pidfd = (uintptr_t)&pidfd;
	args.stack = (uintptr_t)child_stack;
	args.stack_size = sizeof(child_stack);
	state->error = 0;
	/* Who owns a new user namespace (any process of this user that sees the child) has every right over
	 * what is in it: it could take over the child, and with that this process's memory. */
	long dumpable = flags & CLONE_NEWUSER ? sys1(__NR_prctl, PR_GET_DUMPABLE) : 0;
	if (dumpable == 1)
		sys2(__NR_prctl, PR_SET_DUMPABLE, 0);
	uint64_t all = ~0ull, old = 0;
	sys4(__NR_rt_sigprocmask, SIG_SETMASK, &all, &old, 8);
	long pid = sys_clone_run(&args, sizeof(args), apart_child, &apart);
	sys4(__NR_rt_sigprocmask, SIG_SETMASK, &old, 0, 8);
	/* This process goes on a moment before the child has let go of the memory, and who traces the child
	 * could keep it from being waited for. */
	struct pollfd ended = {.fd = pidfd, .events = POLLIN};
	while (pid >= 0 && sys5(__NR_ppoll, &ended, 1, 0, 0, 8) == -EINTR)
		;
	if (dumpable == 1)
		sys2(__NR_prctl, PR_SET_DUMPABLE, 1);
	if (pid < 0) {
		state->index = ((struct bunc_part *)base)->first;
		state->text_size = state->step = 0;
		return pid;
	}
	siginfo_t info;
	sys5(__NR_waitid, P_PIDFD, pidfd, &info, WEXITED | WNOHANG | __WALL, 0);
	sys1(__NR_close, pidfd);
	return apart.result;
}

struct spawn_child {
	struct bunc_spawn *spawn;
	int image;
	char number[12];
	volatile long error;
};

/* Moves a descriptor above all numbers that init will use, so that placing one cannot hit another. */
static long lift(int fd, int above)
{
	return fd < 0 ? fd : sys3(__NR_fcntl, fd, F_DUPFD_CLOEXEC, above);
}

static long place_fds(struct spawn_child *child, const struct bunc_spawn *s)
{
	int fds[BUNC_MAX_FDS], stdio[3], above = s->first_fd + s->nfds + 1;
	long r;
	for (int i = 0; i < 3; i++) {
		r = stdio[i] = s->stdio[i] < 0 ? -1 : (int)lift(s->stdio[i], above);
		if (s->stdio[i] >= 0 && r < 0)
			return r;
	}
	for (int i = 0; i < s->nfds; i++) {
		r = fds[i] = (int)lift(s->fds[i], above);
		if (r < 0)
			return r;
	}
	r = lift(child->image, above);
	if (r < 0)
		return r;
	child->image = s->first_fd + s->nfds;
	r = sys3(__NR_dup3, r, child->image, O_CLOEXEC);
	for (int i = 0; i < 3 && r >= 0; i++)
		if (stdio[i] >= 0)
			r = sys3(__NR_dup3, stdio[i], i, 0);
	/* Bun opens /dev/null for a standard stream that is closed, but not for programs it executes. */
	for (int i = 0; i < 3 && r >= 0; i++)
		sys3(__NR_fcntl, i, F_SETFD, 0);
	for (int i = 0; i < s->preserve && r >= 0; i++)
		r = sys3(__NR_fcntl, 3 + i, F_SETFD, 0);
	for (int i = 0; i < s->nfds && r >= 0; i++)
		r = sys3(__NR_dup3, fds[i], s->first_fd + i, 0);
	/* After bunc-init is running nothing of these may survive the next execve, except what is preserved.
	 */
	if (r >= 0)
		r = sys3(__NR_close_range, above, ~0u, 0);
	return r;
}

static void spawn_child(void *arg)
{
	struct spawn_child *child = arg;
	char *argv[] = {(char *)"bunc-init", child->number, 0};
	char *envp[] = {0};
	long r = place_fds(child, child->spawn);
	if (r >= 0)
		r = sys5(__NR_execveat, child->image, "", argv, envp, AT_EMPTY_PATH);
	child->error = r;
	for (;;)
		sys1(__NR_exit_group, 127);
}

static void write_number(char *out, int number)
{
	char digits[12];
	int n = 0;
	do
		digits[n++] = (char)('0' + number % 10);
	while (number /= 10);
	while (n)
		*out++ = digits[--n];
	*out = 0;
}

/* setns of a pid namespace changes only where this thread's children are born, so it is undone right after.
 */
static long clone_in(int pidns, struct clone_args *args, struct spawn_child *child)
{
	if (pidns < 0)
		return sys_clone_run(args, sizeof(*args), spawn_child, child);
	long own =
	    sys4(__NR_openat, AT_FDCWD, "/proc/thread-self/ns/pid_for_children", O_RDONLY | O_CLOEXEC, 0);
	if (own < 0)
		return own;
	long r = sys2(__NR_setns, pidns, CLONE_NEWPID);
	if (r >= 0) {
		r = sys_clone_run(args, sizeof(*args), spawn_child, child);
		long back = sys2(__NR_setns, own, CLONE_NEWPID);
		if (back < 0 && r >= 0)
			r = back;
	}
	sys1(__NR_close, own);
	return r;
}

static long spawn(struct bunc_spawn *s)
{
	struct spawn_child child = {.spawn = s};
	struct clone_args args = {0};
	if (s->nfds < 1 || s->nfds > BUNC_MAX_FDS || s->preserve < 0 || s->first_fd < 3 + s->preserve)
		return -EINVAL;
	s->pid = s->pidfd = -1;
	long image = sealed_init();
	if (image < 0)
		return image;
	child.image = (int)image;
	write_number(child.number, s->first_fd);
	args.flags = s->flags | CLONE_VM | CLONE_VFORK | CLONE_PIDFD;
	args.pidfd = (uintptr_t)&s->pidfd;
	args.exit_signal = SIGCHLD;
	args.stack = (uintptr_t)child_stack;
	args.stack_size = sizeof(child_stack);
	args.cgroup = (uint64_t)(uint32_t)s->cgroup;
	uint64_t all = ~0ull, old = 0;
	sys4(__NR_rt_sigprocmask, SIG_SETMASK, &all, &old, 8);
	long pid = clone_in(s->pidns, &args, &child);
	sys4(__NR_rt_sigprocmask, SIG_SETMASK, &old, 0, 8);
	sys1(__NR_close, image);
	if (pid >= 0 && child.error < 0) {
		siginfo_t info;
		sys5(__NR_waitid, P_PIDFD, s->pidfd, &info, WEXITED, 0);
		sys1(__NR_close, s->pidfd);
		s->pidfd = -1;
		return child.error;
	}
	s->pid = (int32_t)pid;
	return pid < 0 ? pid : 0;
}

static long read_file(int dir, const char *path, char *buffer, size_t size)
{
	/* O_NONBLOCK: a fifo under this name must not hang the caller. */
	long fd = sys4(__NR_openat, dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0)
		return fd;
	size_t have = 0;
	long n = 1;
	while (have < size && n > 0) {
		n = sys3(__NR_read, fd, buffer + have, size - have);
		if (n == -EINTR)
			n = 1;
		else if (n > 0)
			have += (size_t)n;
	}
	sys1(__NR_close, fd);
	return n < 0 ? n : (long)have;
}

/* fds[0]: how many arrived, then the descriptors (at most 15). */
static long receive(int sock, void *buffer, size_t size, int32_t *fds, int flags)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(15 * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = buffer, .iov_len = size};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = CMSG_LEN(15 * sizeof(int))};
	long n;
	do
		n = sys3(__NR_recvmsg, sock, &msg, flags | MSG_CMSG_CLOEXEC);
	while (n == -EINTR);
	fds[0] = 0;
	if (n < 0)
		return n;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t bytes = c->cmsg_len - CMSG_LEN(0);
		memcpy(fds + 1 + fds[0], CMSG_DATA(c), bytes);
		fds[0] += (int32_t)(bytes / sizeof(int));
	}
	return n;
}

static volatile int signal_fd = -1;

static void on_signal(int number)
{
	unsigned char byte = (unsigned char)number;
	sys3(__NR_write, signal_fd, &byte, 1);
}

/* Signals that belong to the program itself: faults, SIGCHLD, SIGURG, and those JavaScriptCore stops threads
 * with. */
static int is_ours(int number)
{
	switch (number) {
	case SIGKILL:
	case SIGSTOP:
	case SIGCHLD:
	case SIGURG:
	case SIGPIPE:
	case SIGPWR:
	case SIGSEGV:
	case SIGBUS:
	case SIGILL:
	case SIGFPE:
	case SIGTRAP:
	case SIGABRT:
	case SIGSYS:
	case 32: /* glibc's own */
	case 33:
		return 1;
	default:
		return 0;
	}
}

/* struct sigaction as the kernel has it. */
struct kernel_sigaction {
	void (*handler)(int);
	unsigned long flags;
	void (*restorer)(void);
	uint64_t mask;
};

#if defined(__x86_64__)
#define SA_RESTORER 0x04000000
/* What a handler returns to; elsewhere the kernel has its own. */
void bunc_sigreturn(void);
__asm__(".text\n"
	".hidden bunc_sigreturn\n"
	".globl bunc_sigreturn\n"
	"bunc_sigreturn:\n\tmov $15, %eax\n\tsyscall\n");
#endif

static long forward_signals(int fd)
{
	struct kernel_sigaction action = {.handler = on_signal, .flags = SA_RESTART};
	uint64_t none = 0;
#if defined(__x86_64__)
	action.flags |= SA_RESTORER;
	action.restorer = bunc_sigreturn;
#endif
	signal_fd = fd;
	for (int number = 1; number <= 64; number++)
		if (!is_ours(number))
			sys4(__NR_rt_sigaction, number, &action, 0, sizeof(action.mask));
	sys4(__NR_rt_sigprocmask, SIG_SETMASK, &none, 0, sizeof(none));
	return 0;
}

size_t bunc_strlen(const char *text)
{
	size_t size = 0;
	while (text[size]) {
		/* gcc would make a call of strlen of this, which the dynamic linker would have to look up. */
		__asm__ volatile("" : : : "memory");
		size++;
	}
	return size;
}

__attribute__((visibility("default"))) long bunc(long call, long a, long b, long c, long d, long e, long f)
{
	switch (call) {
	case BUNC_CALL_RUN:
		return run((uint8_t *)a, (size_t)b, (struct bunc_state *)c);
	case BUNC_CALL_RUN_APART:
		return run_apart((uint8_t *)a, (size_t)b, (struct bunc_state *)c, (uint64_t)d);
	case BUNC_CALL_SPAWN:
		return spawn((struct bunc_spawn *)a);
	case BUNC_CALL_READ_FILE:
		return read_file((int)a, (const char *)b, (char *)c, (size_t)d);
	case BUNC_CALL_RECV:
		return receive((int)a, (void *)b, (size_t)c, (int32_t *)d, (int)e);
	case BUNC_CALL_SEND_FD:
		return bunc_send_fd((int)a, (int)b, (const void *)c, (size_t)d);
	case BUNC_CALL_FORK:
		return fork();
	case BUNC_CALL_INIT_IMAGE:
		return sealed_init();
	case BUNC_CALL_SIGNALS:
		return forward_signals((int)a);
	default:
		return call >= 0 && call < BUNC_OP_FIRST ? sys6(call, a, b, c, d, e, f) : -ENOSYS;
	}
}
