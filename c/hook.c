/* Running a hook: state on stdin, output kept for the error message, an optional deadline. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <linux/memfd.h>
#include <linux/sched.h>
#include <linux/wait.h>
#include "interp.h"
#include "sys.h"

struct hook_child {
	const struct bunc_hook *hook;
	int stdio[3];
	long error;
};

static uint64_t hook_stack[1024] __attribute__((aligned(16)));

static void hook_child(void *arg)
{
	struct hook_child *child = arg;
	uint64_t action[4] = {0, 0, 0, 0}, none = 0;
	for (int s = 1; s <= 64; s++)
		sys4(__NR_rt_sigaction, s, action, 0, 8);
	sys4(__NR_rt_sigprocmask, SIG_SETMASK, &none, 0, 8);
	for (int i = 0; i < 3 && child->error >= 0; i++)
		child->error = sys3(__NR_dup3, child->stdio[i], i, 0);
	if (child->error >= 0)
		child->error = sys3(__NR_close_range, 3, ~0u, 0);
	if (child->error >= 0)
		child->error = sys3(__NR_execve, child->hook->path, child->hook->argv, child->hook->envp);
	for (;;)
		sys1(__NR_exit_group, 127);
}

/* Whether a standard stream of the hook is a descriptor of the caller's, that stays open and is not looked
 * into. */
static int is_given(const struct bunc_hook *hook, int stream)
{
	return stream > 0 && hook->stdio[stream - 1] >= 0;
}

static long temp_file(const char *name)
{
	/* Above the standard descriptors, so that dup3 onto them cannot meet it. */
	long fd = sys2(__NR_memfd_create, name, MFD_CLOEXEC);
	if (fd < 0 || fd > 2)
		return fd;
	long high = sys3(__NR_fcntl, fd, F_DUPFD_CLOEXEC, 3);
	sys1(__NR_close, fd);
	return high;
}

static void say_output(struct bunc_state *state, int fd, size_t room)
{
	char buffer[400];
	long size = sys3(__NR_lseek, fd, 0, SEEK_END);
	if (size <= 0)
		return;
	/* The end of an output holds the reason more often than its beginning. */
	long from = size > (long)room ? size - (long)room : 0;
	long n = sys4(__NR_pread64, fd, buffer, room, from);
	if (n > 0)
		bunc_say(state, buffer, (size_t)n);
}

static long wait_hook(struct bunc_state *state, int pidfd, const struct hook_child *child)
{
	struct pollfd poll = {.fd = pidfd, .events = POLLIN};
	const struct bunc_hook *hook = child->hook;
	int64_t timeout_ms = hook->timeout_ms;
	struct timespec {
		int64_t sec, nsec;
	} left = {timeout_ms / 1000, timeout_ms % 1000 * 1000000};
	long r;
	/* ppoll updates `left`, so that an interrupted wait does not begin anew. */
	do
		r = sys5(__NR_ppoll, &poll, 1, timeout_ms < 0 ? 0 : &left, 0, 8);
	while (r == -EINTR);
	int late = r == 0;
	if (late)
		sys4(__NR_pidfd_send_signal, pidfd, SIGKILL, 0, 0);
	siginfo_t info;
	memset(&info, 0, sizeof(info));
	do
		r = sys5(__NR_waitid, P_PIDFD, pidfd, &info, WEXITED, 0);
	while (r == -EINTR);
	if (r < 0)
		return r;
	if (late)
		return -ETIMEDOUT;
	if (info.si_code == CLD_EXITED && info.si_status == 0)
		return 0;
	/* The text of BUNC_EHOOK: one byte for the kind, one for the status, stdout, NUL, stderr. */
	char head[2] = {info.si_code == CLD_EXITED ? 'e' : 's', (char)info.si_status};
	state->text_size = 0;
	bunc_say(state, head, sizeof(head));
	if (!is_given(hook, 1))
		say_output(state, child->stdio[1], 300);
	bunc_say(state, "", 1);
	if (!is_given(hook, 2))
		say_output(state, child->stdio[2], 400);
	return -BUNC_EHOOK;
}

long bunc_hook(struct bunc_state *state, const struct bunc_hook *hook)
{
	struct hook_child child = {.hook = hook, .stdio = {-1, -1, -1}};
	const char *name = "bunc-hook";
	int pidfd = -1;
	long r = 0;
	for (int i = 0; i < 3 && r >= 0; i++) {
		r = is_given(hook, i) ? hook->stdio[i - 1] : temp_file(name);
		child.stdio[i] = (int)r;
	}
	if (r >= 0)
		r = bunc_write_all(child.stdio[0], (const void *)hook->input, hook->input_size);
	if (r >= 0)
		r = sys3(__NR_lseek, child.stdio[0], 0, SEEK_SET);
	if (r >= 0) {
		struct clone_args args;
		memset(&args, 0, sizeof(args));
		args.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD;
		args.pidfd = (uintptr_t)&pidfd;
		args.exit_signal = SIGCHLD;
		args.stack = (uintptr_t)hook_stack;
		args.stack_size = sizeof(hook_stack);
		uint64_t all = ~0ull, old = 0;
		sys4(__NR_rt_sigprocmask, SIG_SETMASK, &all, &old, 8);
		r = sys_clone_run(&args, sizeof(args), hook_child, &child);
		sys4(__NR_rt_sigprocmask, SIG_SETMASK, &old, 0, 8);
	}
	if (r >= 0) {
		r = wait_hook(state, pidfd, &child);
		if (child.error < 0) {
			r = child.error;
			state->text_size = 0;
		}
	}
	if (pidfd >= 0)
		sys1(__NR_close, pidfd);
	for (int i = 0; i < 3; i++)
		if (child.stdio[i] >= 0 && !is_given(hook, i))
			sys1(__NR_close, child.stdio[i]);
	return r < 0 ? r : 0;
}
