/*
 * The composites that are no more than a few calls, and which function carries out each of the others: what
 * an operation of enum bunc_code from BUNC_OP_FIRST on comes to.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include "interp.h"
#include "sys.h"

static long report(struct bunc_state *state, uint32_t kind, uint32_t index, uint32_t what, int64_t value)
{
	struct bunc_event event = {.kind = kind, .index = index, .event = what, .value = value};
	return bunc_send_event(state->sync_fd, &event, "");
}

/* A candidate that is a directory or not executable decides the error only if no other one is found, as in
 * Go. */
static long look_path(const char *candidates)
{
	long error = -ENOENT;
	for (const char *c = candidates; *c; c += bunc_strlen(c) + 1) {
		struct stat st;
		long r = sys4(__NR_newfstatat, AT_FDCWD, c, &st, 0);
		if (r == 0 && S_ISDIR(st.st_mode))
			r = -EISDIR;
		if (r == 0) {
			r = sys4(__NR_faccessat2, AT_FDCWD, c, 1 /* X_OK */, AT_EACCESS);
			/* faccessat answers EACCES for want of any x bit, also to root. */
			if (r == 0)
				return (long)(uintptr_t)c;
		}
		if (r != -ENOENT && r != -ENOTDIR)
			error = r;
		else if (error == -ENOENT)
			error = r;
	}
	return error;
}

static long patch(void *where, uint64_t size, uint64_t and, uint64_t or)
{
	if (size == 4) {
		uint32_t word;
		memcpy(&word, where, sizeof(word));
		word = (word & (uint32_t) and) | (uint32_t) or ;
		memcpy(where, &word, sizeof(word));
	} else if (size == 8) {
		uint64_t word;
		memcpy(&word, where, sizeof(word));
		word = (word & and) | or ;
		memcpy(where, &word, sizeof(word));
	} else {
		return -EINVAL;
	}
	return 0;
}

static long load_word(const void *where, uint64_t size)
{
	uint64_t word = 0;
	if (size != 1 && size != 2 && size != 4 && size != 8)
		return -EINVAL;
	memcpy(&word, where, size); /* both architectures are little endian */
	return (long)(word & INT64_MAX);
}

static long drop_bounding(uint64_t keep)
{
	for (int cap = 0; cap < 64; cap++) {
		if (keep >> cap & 1)
			continue;
		long r = sys2(__NR_prctl, PR_CAPBSET_DROP, cap);
		/* Beyond the last capability that this kernel knows. */
		if (r == -EINVAL && cap > 0)
			return 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static long check_cwd(void)
{
	char path[4096];
	long n = sys2(__NR_getcwd, path, sizeof(path));
	if (n < 0)
		return n;
	/* The kernel writes "(unreachable)..." for a directory outside of the root. */
	return path[0] == '/' ? 0 : -ENOENT;
}

static long write_at(int dir, const char *path, long flags, const void *bytes, size_t size)
{
	long fd = sys4(__NR_openat, dir, path, flags, 0);
	if (fd < 0)
		return fd;
	/* One write: files of /proc, /sys and cgroupfs take a value only whole. */
	long n;
	do
		n = sys3(__NR_write, fd, bytes, size);
	while (n == -EINTR);
	sys1(__NR_close, fd);
	return n < 0 ? n : (size_t)n == size ? 0 : -EIO;
}

static void end_by(int signal)
{
	/* A seccomp filter may refuse the first; the second ends any init. */
	sys1(__NR_exit_group, 128 + signal);
	__builtin_trap();
}

static void reset_signals(int ends)
{
	/* struct kernel_sigaction, all zero: SIG_DFL, no flags, empty mask. SIGKILL and SIGSTOP refuse; fine.
	 */
	uint64_t action[4] = {0, 0, 0, 0};
	uint64_t none = 0;
	for (int s = 1; s <= 64; s++)
		sys4(__NR_rt_sigaction, s, action, 0, 8);
	/* The handler does not return, so nothing is to be restored; x86-64 wants something to return to. */
	static const int ending[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
	action[0] = action[2] = (uint64_t)(uintptr_t)end_by;
	action[1] = 0x04000000; /* SA_RESTORER */
	for (size_t i = 0; ends && i < sizeof(ending) / sizeof(ending[0]); i++)
		sys4(__NR_rt_sigaction, ending[i], action, 0, 8);
	sys4(__NR_rt_sigprocmask, SIG_SETMASK, &none, 0, 8);
}

/*
 * Only for init, which has one thread and owns all its memory: an ordinary fork, but with the same parent.
 * The new process goes on when the old one has told the parent of it: else the parent could hear of the new
 * one's work first, and do its own share to the old process.
 */
static long fork_on(struct bunc_state *state, uint64_t flags)
{
	struct clone_args args;
	int gate[2];
	char told = 0;
	long r = sys2(__NR_pipe2, gate, O_CLOEXEC);
	if (r < 0)
		return r;
	memset(&args, 0, sizeof(args));
	args.flags = flags | CLONE_PARENT;
	long pid = sys2(__NR_clone3, &args, sizeof(args));
	if (pid > 0) {
		report(state, BUNC_EVENT_FORKED, 0, 0, pid);
		bunc_write_all(gate[1], &told, 1);
		for (;;)
			sys1(__NR_exit_group, 0);
	}
	sys1(__NR_close, gate[1]);
	if (pid == 0) {
		do
			r = sys3(__NR_read, gate[0], &told, 1);
		while (r == -EINTR);
		while (r != 1) /* the old one was killed before it could tell */
			sys1(__NR_exit_group, 1);
	}
	sys1(__NR_close, gate[0]);
	return pid;
}

long bunc_composite(const struct bunc_op *op, struct bunc_state *state, uint32_t index, const uint64_t *a)
{
	switch (op->code) {
	case BUNC_OP_PART:
		if (!a[0])
			return 0;
		/* fall through */
	case BUNC_OP_REPORT:
		return report(state, BUNC_EVENT_STAGE, index, (uint32_t)a[0], (int64_t)a[1]);
	case BUNC_OP_MKPATH:
		return bunc_mkpath((int)a[0], (const char *)a[1], (unsigned int)a[2], (unsigned int)a[3]);
	case BUNC_OP_SENDFD:
		return bunc_send_fd((int)a[0], (int)a[1], (const void *)a[2], a[3]);
	case BUNC_OP_HOOK:
		return bunc_hook(state, (const struct bunc_hook *)a[0]);
	case BUNC_OP_LOOKPATH:
		return look_path((const char *)a[0]);
	case BUNC_OP_HOME:
		return bunc_home((const char *)a[0], a[1], (char *)a[2], a[3]);
	case BUNC_OP_COPYUP:
		return bunc_copy_up((int)a[0], (int)a[1], 0);
	case BUNC_OP_EXPECT:
		return (a[0] & a[1]) == a[2] ? 0 : -(long)a[3];
	case BUNC_OP_PATCH:
		return patch((void *)a[0], a[1], a[2], a[3]);
	case BUNC_OP_LOAD:
		return load_word((const void *)a[0], a[1]);
	case BUNC_OP_DROP_BOUNDING:
		return drop_bounding(a[0]);
	case BUNC_OP_CHECK_CWD:
		return check_cwd();
	case BUNC_OP_FORK:
		return fork_on(state, a[0]);
	case BUNC_OP_NETLINK:
		return bunc_netlink(state, (int)a[0], (const void *)a[1], a[2]);
	case BUNC_OP_WRITE:
		return bunc_write_all((int)a[0], (const void *)a[1], a[2]);
	case BUNC_OP_WRITE_AT:
		return write_at((int)a[0], (const char *)a[1], (long)a[2], (const void *)a[3], a[4]);
	case BUNC_OP_ERRORS_TO:
		state->error_fd = (int)a[0];
		return 0;
	case BUNC_OP_RESET_SIGNALS:
		reset_signals(a[0] != 0);
		return 0;
	case BUNC_OP_MOUNT:
		return bunc_mount(state, (int)a[0], (const char *)a[1], (const struct bunc_mount *)a[2]);
	case BUNC_OP_MOUNT_ATTR:
		return bunc_set_attributes((int)a[0], (const char *)a[1], a[2], a[3]);
	case BUNC_OP_DEVICE:
		return bunc_device(state, (int)a[0], (const char *)a[1], (const struct bunc_device *)a[2]);
	case BUNC_OP_MASK:
		return bunc_mask(state, (int)a[0], (const char *)a[1], (int)a[2], a[3]);
	case BUNC_OP_READONLY:
		return bunc_readonly(state, (int)a[0], (const char *)a[1], a[2]);
	case BUNC_OP_NULL_STREAMS:
		return bunc_null_streams((int)a[0]);
	case BUNC_OP_OWN_STREAMS:
		return bunc_own_streams((uint32_t)a[0]);
	default:
		return -ENOSYS;
	}
}
