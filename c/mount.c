/*
 * Mounts below the container's root. Each of these operations is a fixed row of calls on descriptors: a mount
 * is made detached and moved onto its target, which was opened below the root; no path of the rootfs is
 * resolved twice. What is mounted, with which flags and where, TypeScript has decided.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <linux/magic.h>
#include "mount.h"

/* mount_setattr came with Linux 5.12; before, a remount of "." changes one mount, and nothing can be
 * recursive. */
long bunc_change_mount(int fd, uint64_t set, uint64_t clear, uint64_t propagation, int recursive)
{
	static const struct {
		uint32_t attr, flag;
	} flags[] = {
	    {MOUNT_ATTR_RDONLY, MS_RDONLY},
	    {MOUNT_ATTR_NOSUID, MS_NOSUID},
	    {MOUNT_ATTR_NODEV, MS_NODEV},
	    {MOUNT_ATTR_NOEXEC, MS_NOEXEC},
	    {MOUNT_ATTR_NODIRATIME, MS_NODIRATIME},
	    {MOUNT_ATTR_NOATIME, MS_NOATIME},
	    {MOUNT_ATTR_STRICTATIME, MS_STRICTATIME},
	};
	struct mount_attr attr = {.attr_set = set, .attr_clr = clear, .propagation = propagation};
	if (!set && !clear && !propagation)
		return 0;
	long r = sys5(__NR_mount_setattr, fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr,
		      sizeof(attr));
	if (r != -ENOSYS || (recursive && (set || clear)))
		return r;
	struct statfs_head fs;
	memset(&fs, 0, sizeof(fs));
	sys2(__NR_fstatfs, fd, &fs);
	/* A remount sets all flags, so those that are there go along; statfs has them with the same numbers.
	 */
	uint64_t old = (uint64_t)fs.rest[9] &
		       (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME);
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (clear & flags[i].attr)
			old &= ~(uint64_t)flags[i].flag;
		if (set & flags[i].attr)
			old |= flags[i].flag;
	}
	r = sys1(__NR_fchdir, fd);
	if (r >= 0 && (set || clear))
		r = sys5(__NR_mount, 0, ".", 0, old | MS_REMOUNT | MS_BIND, 0);
	if (r >= 0 && propagation)
		r = sys5(__NR_mount, 0, ".", 0, propagation | (recursive ? MS_REC : 0), 0);
	return r;
}

static int is_proc(int fd)
{
	struct statfs_head fs;
	return sys2(__NR_fstatfs, fd, &fs) == 0 && fs.type == PROC_SUPER_MAGIC;
}

/* The target's descriptor. *mode is that of the directory it covers, 01777 where none was there. */
static long open_target(struct bunc_state *state, int root, const char *path, const struct bunc_mount *m,
			unsigned int kind, unsigned int *mode)
{
	struct stat st;
	long target = -ENOENT;
	*mode = 01777;
	if (m->flags & (BUNC_MOUNT_NO_LINKS | BUNC_MOUNT_TAKE_MODE)) {
		uint64_t resolve =
		    m->flags & BUNC_MOUNT_NO_LINKS ? RESOLVE_NO_SYMLINKS : RESOLVE_NO_MAGICLINKS;
		target = step(state, __NR_openat2, 0, open_below(root, path, O_PATH | O_DIRECTORY, resolve));
		if (target < 0 && target != -ENOENT)
			return target;
		if (target >= 0 && sys4(__NR_newfstatat, target, "", &st, AT_EMPTY_PATH) == 0)
			*mode = st.st_mode & 07777;
	}
	if (target < 0) {
		target = step(state, __NR_mkdirat, 0, bunc_mkpath(root, path, kind, 0755));
		/* A link may have come to where nothing was. */
		if (target >= 0 && m->flags & BUNC_MOUNT_NO_LINKS) {
			close_fd(target);
			target = open_below(root, path, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
			step(state, __NR_openat2, 0, target);
		}
	}
	if (target < 0)
		return target;
	if (m->flags & BUNC_MOUNT_GUARD_PROC && is_proc((int)target)) {
		close_fd(target);
		return step(state, __NR_fstatfs, 0, -EPERM);
	}
	long r = sys4(__NR_newfstatat, target, "", &st, AT_EMPTY_PATH);
	/* move_mount says EINVAL to this. */
	if (r == 0 && S_ISDIR(st.st_mode) != S_ISDIR(kind))
		r = step(state, __NR_move_mount, 0, -ENOTDIR);
	if (r == 0)
		return target;
	close_fd(target);
	return r;
}

/* Parameters: a byte for the kind ('f' flag, 's' string), the name, for a string the value; ended by a zero
 * byte. */
static long configure(struct bunc_state *state, int fs, const char *params, int command)
{
	for (uint32_t item = 1; *params; item++) {
		int string = *params++ == 's';
		const char *value = params + bunc_strlen(params) + 1;
		long r = sys5(__NR_fsconfig, fs, string ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, params,
			      string ? value : 0, 0);
		if (r < 0)
			return step(state, __NR_fsconfig, item, r);
		params = string ? value + bunc_strlen(value) + 1 : value;
	}
	return step(state, __NR_fsconfig, 0, sys5(__NR_fsconfig, fs, command, 0, 0, 0));
}

/* The parameter "mode" of a tmpfs. As a parameter it is seen in /proc/mounts, and survives a remount. */
static long set_mode(struct bunc_state *state, long fs, unsigned int mode)
{
	char octal[] = {'0' + (mode >> 9 & 7), '0' + (mode >> 6 & 7), '0' + (mode >> 3 & 7), '0' + (mode & 7),
			0};
	return step(state, __NR_fsconfig, 0, sys5(__NR_fsconfig, fs, FSCONFIG_SET_STRING, "mode", octal, 0));
}

static long make_file_system(struct bunc_state *state, const struct bunc_mount *m, unsigned int mode)
{
	long fs = step(state, __NR_fsopen, 0, sys2(__NR_fsopen, m->type, FSOPEN_CLOEXEC));
	if (fs < 0)
		return fs;
	long r = m->flags & BUNC_MOUNT_TAKE_MODE ? set_mode(state, fs, mode) : 0;
	if (r >= 0)
		r = configure(state, (int)fs, (const char *)m->params, FSCONFIG_CMD_CREATE);
	if (r >= 0)
		r = step(state, __NR_fsmount, 0, sys3(__NR_fsmount, fs, FSMOUNT_CLOEXEC, m->set));
	if (r < 0)
		bunc_read_fs_log(state, (int)fs);
	close_fd(fs);
	return r;
}

static long copy_up(struct bunc_state *state, int target, int mount)
{
	long flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
	long from = sys4(__NR_openat, target, ".", flags, 0);
	long to = sys4(__NR_openat, mount, ".", flags, 0);
	long r = from < 0 ? from : to < 0 ? to : bunc_copy_up((int)from, (int)to, 0);
	close_fd(from);
	close_fd(to);
	return step(state, __NR_sendfile, 0, r);
}

static long mount_file_system(struct bunc_state *state, int root, const char *path,
			      const struct bunc_mount *m)
{
	unsigned int mode;
	long target = open_target(state, root, path, m, S_IFDIR, &mode);
	if (target < 0)
		return target;
	long mount = make_file_system(state, m, mode), r = mount;
	if (r >= 0 && m->flags & BUNC_MOUNT_COPY_UP)
		r = copy_up(state, (int)target, (int)mount);
	if (r >= 0)
		r = step(state, __NR_move_mount, 0, sys5(__NR_move_mount, mount, "", target, "", MOVE_EMPTY));
	close_fd(target);
	if (r >= 0)
		return mount;
	close_fd(mount);
	return r;
}

/* EPERM: an attribute is locked, as in a user namespace those of the host's mounts are (mount_namespaces(7)).
 */
static long bind_attributes(int tree, const struct bunc_mount *m)
{
	long r = bunc_change_mount(tree, m->set, m->clear, 0, 0);
	if (r != -EPERM || !m->implied)
		return r;
	return bunc_change_mount(tree, m->set, m->clear & ~m->implied, 0, 0);
}

static long bind(struct bunc_state *state, int root, const char *path, const struct bunc_mount *m)
{
	struct stat st;
	unsigned int mode;
	uint64_t flags =
	    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (m->flags & BUNC_MOUNT_RECURSIVE ? AT_RECURSIVE : 0);
	long tree = m->tree >= 0
			? m->tree
			: step(state, __NR_open_tree, 0, sys3(__NR_open_tree, AT_FDCWD, m->source, flags));
	if (tree < 0)
		return tree;
	long target = -1, r = sys4(__NR_newfstatat, tree, "", &st, AT_EMPTY_PATH);
	if (r >= 0 && m->flags & BUNC_MOUNT_ONLY_PROC && !is_proc((int)tree))
		r = step(state, __NR_fstatfs, 1, -EPERM);
	if (r >= 0)
		target = r = open_target(state, root, path, m, st.st_mode, &mode);
	if (r >= 0)
		r = step(state, __NR_move_mount, 0, sys5(__NR_move_mount, tree, "", target, "", MOVE_EMPTY));
	close_fd(target);
	if (r >= 0)
		r = step(state, __NR_mount_setattr, 0, bind_attributes((int)tree, m));
	if (r >= 0)
		return tree;
	close_fd(tree);
	return r;
}

static long remount(struct bunc_state *state, int root, const char *path, const struct bunc_mount *m)
{
	long mount = step(state, __NR_openat2, 0, open_below(root, path, O_PATH, RESOLVE_NO_MAGICLINKS));
	if (mount < 0)
		return mount;
	long r = step(state, __NR_mount_setattr, 0, bunc_change_mount((int)mount, m->set, m->clear, 0, 0));
	if (r >= 0 && m->params) {
		long fs = r = step(state, __NR_fspick, 0,
				   sys3(__NR_fspick, mount, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH));
		if (r >= 0)
			r = configure(state, (int)fs, (const char *)m->params, FSCONFIG_CMD_RECONFIGURE);
		if (r < 0 && fs >= 0)
			bunc_read_fs_log(state, (int)fs);
		close_fd(fs);
	}
	if (r >= 0)
		return mount;
	close_fd(mount);
	return r;
}

long bunc_mount(struct bunc_state *state, int root, const char *path, const struct bunc_mount *m)
{
	long mount = m->flags & BUNC_MOUNT_REMOUNT ? remount(state, root, path, m)
		     : m->type			   ? mount_file_system(state, root, path, m)
						   : bind(state, root, path, m);
	if (mount < 0)
		return mount;
	long r =
	    step(state, __NR_mount_setattr, 1, bunc_change_mount((int)mount, m->rec_set, m->rec_clear, 0, 1));
	for (const uint64_t *p = (const uint64_t *)m->propagation; r >= 0 && p && *p; p++)
		r = step(state, __NR_mount_setattr, 2,
			 bunc_change_mount((int)mount, 0, 0, *p & ~(uint64_t)MS_REC, (*p & MS_REC) != 0));
	close_fd(mount);
	return r;
}

long bunc_set_attributes(int root, const char *path, uint64_t set, uint64_t clear)
{
	long fd = open_below(root, path, O_PATH, RESOLVE_NO_MAGICLINKS);
	if (fd < 0)
		return fd;
	long r = bunc_change_mount((int)fd, set, clear, 0, 0);
	close_fd(fd);
	return r;
}
