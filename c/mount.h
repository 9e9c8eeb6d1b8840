/* What mounts (mount.c) and what covers paths (cover.c) share. */
#ifndef BUNC_MOUNT_H
#define BUNC_MOUNT_H

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include "interp.h"
#include "sys.h"

#define MOVE_EMPTY (MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)

/* struct statfs, as far as it is looked at. */
struct statfs_head {
	int64_t type;
	int64_t rest[16];
};

/* Remembers which call of the row is under way, for the message of a failure. */
static inline long step(struct bunc_state *state, long call, uint32_t item, long result)
{
	if (result < 0)
		state->step = (uint32_t)call | item << 16;
	return result;
}

static inline void close_fd(long fd)
{
	if (fd >= 0)
		sys1(__NR_close, fd);
}

static inline long open_below(int root, const char *path, uint64_t flags, uint64_t resolve)
{
	struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | resolve};
	long fd;
	do
		fd = sys4(__NR_openat2, root, path, &how, sizeof(how));
	while (fd == -EAGAIN || fd == -EINTR);
	return fd;
}

/* Changes attributes or the propagation of a mount, or of all below it; 0 or -errno. */
long bunc_change_mount(int fd, uint64_t set, uint64_t clear, uint64_t propagation, int recursive);

#endif
