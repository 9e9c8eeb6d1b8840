/*
 * Mounts, devices and covered paths below the container's root. Each of these operations is a fixed row of
 * calls on descriptors: a mount is made detached and moved onto its target, which was opened below the root;
 * no path of the rootfs is resolved twice. What is mounted, with which flags and where, TypeScript has
 * decided.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include "interp.h"
#include "sys.h"

#define MOVE_EMPTY (MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)

struct statfs_head {
	int64_t type;
	int64_t rest[16];
};

/* Remembers which call of the row is under way, for the message of a failure. */
static long step(struct bunc_state *state, long call, uint32_t item, long result)
{
	if (result < 0)
		state->step = (uint32_t)call | item << 16;
	return result;
}

static void close_fd(long fd)
{
	if (fd >= 0)
		sys1(__NR_close, fd);
}

static long open_below(int root, const char *path, uint64_t flags, uint64_t resolve)
{
	struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | resolve};
	long fd;
	do
		fd = sys4(__NR_openat2, root, path, &how, sizeof(how));
	while (fd == -EAGAIN || fd == -EINTR);
	return fd;
}

/* mount_setattr came with Linux 5.12; before, a remount of "." changes one mount, and nothing can be
 * recursive. */
static long set_attributes(int fd, uint64_t set, uint64_t clear, uint64_t propagation, int recursive)
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
	if (target < 0)
		target = step(state, __NR_mkdirat, 0, bunc_mkpath(root, path, kind, 0755));
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
	long r = set_attributes(tree, m->set, m->clear, 0, 0);
	if (r != -EPERM || !m->implied)
		return r;
	return set_attributes(tree, m->set, m->clear & ~m->implied, 0, 0);
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
	long r = step(state, __NR_mount_setattr, 0, set_attributes((int)mount, m->set, m->clear, 0, 0));
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
	    step(state, __NR_mount_setattr, 1, set_attributes((int)mount, m->rec_set, m->rec_clear, 0, 1));
	for (const uint64_t *p = (const uint64_t *)m->propagation; r >= 0 && p && *p; p++)
		r = step(state, __NR_mount_setattr, 2,
			 set_attributes((int)mount, 0, 0, *p & ~(uint64_t)MS_REC, (*p & MS_REC) != 0));
	close_fd(mount);
	return r;
}

long bunc_set_attributes(int root, const char *path, uint64_t set, uint64_t clear)
{
	long fd = open_below(root, path, O_PATH, RESOLVE_NO_MAGICLINKS);
	if (fd < 0)
		return fd;
	long r = set_attributes((int)fd, set, clear, 0, 0);
	close_fd(fd);
	return r;
}

/*
 * The host's node over an empty file: in a user namespace none can be made. What is there already is covered
 * and never opened, as it may be a device of the image's choice.
 */
static long bind_device(struct bunc_state *state, int dir, const char *name, const char *host)
{
	long r = step(state, __NR_mknodat, 0, sys4(__NR_mknodat, dir, name, S_IFREG | 0666, 0));
	if (r < 0 && r != -EEXIST)
		return r;
	long file = step(state, __NR_openat, 0, open_below(dir, name, O_PATH, RESOLVE_NO_SYMLINKS));
	if (file < 0)
		return file;
	long flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW;
	long tree = step(state, __NR_open_tree, 0, sys3(__NR_open_tree, AT_FDCWD, host, flags));
	r = tree;
	if (r >= 0)
		r = step(state, __NR_move_mount, 0, sys5(__NR_move_mount, tree, "", file, "", MOVE_EMPTY));
	close_fd(tree);
	close_fd(file);
	return r < 0 ? r : 0;
}

long bunc_device(struct bunc_state *state, int dir, const char *name, const struct bunc_device *d)
{
	if (!d->mode)
		return bind_device(state, dir, name, (const char *)d->host);
	long r = step(state, __NR_mknodat, 0, sys4(__NR_mknodat, dir, name, d->mode, d->dev));
	/* A node that the image brought stays; the cgroup decides what may be opened. */
	if (r == -EEXIST) {
		struct stat st;
		r = d->strict ? sys4(__NR_newfstatat, dir, name, &st, AT_SYMLINK_NOFOLLOW) : 0;
		if (r == 0 && d->strict && ((st.st_mode ^ d->mode) & S_IFMT || st.st_rdev != d->dev))
			return step(state, __NR_mknodat, 0, -EEXIST);
		return r;
	}
	if (r == -EPERM && d->host)
		return bind_device(state, dir, name, (const char *)d->host);
	if (r >= 0 && (d->uid || d->gid))
		r = step(state, __NR_fchownat, 0,
			 sys5(__NR_fchownat, dir, name, d->uid, d->gid, AT_SYMLINK_NOFOLLOW));
	return r;
}

/* Whether fd is the null device: a character device 1:3, not just any file that calls itself so. */
static int is_null(int fd)
{
	struct stat st;
	return sys4(__NR_newfstatat, fd, "", &st, AT_EMPTY_PATH) == 0 && S_ISCHR(st.st_mode) &&
	       st.st_rdev == (1 << 8 | 3);
}

static long move_clone(int from, int target)
{
	long tree = sys3(__NR_open_tree, from, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (tree < 0)
		return tree;
	long r = sys5(__NR_move_mount, tree, "", target, "", MOVE_EMPTY);
	close_fd(tree);
	return r;
}

/*
 * Covers a directory by a clone of the empty tmpfs, anything else by the null device. Before Linux 6.15 a
 * detached mount cannot be cloned: then the first directory gets the tmpfs itself, and the next ones clones
 * of that.
 */
long bunc_mask(struct bunc_state *state, int root, const char *path, int empty)
{
	struct stat st;
	long target = open_below(root, path, O_PATH, RESOLVE_NO_MAGICLINKS);
	if (target == -ENOENT || target == -ENOTDIR)
		return 0;
	if (target < 0)
		return step(state, __NR_openat2, 0, target);
	long r = sys4(__NR_newfstatat, target, "", &st, AT_EMPTY_PATH);
	if (r >= 0 && S_ISDIR(st.st_mode)) {
		r = step(state, __NR_open_tree, 0, move_clone(empty, (int)target));
		if (r == -EINVAL)
			r = step(state, __NR_move_mount, 0,
				 sys5(__NR_move_mount, empty, "", target, "", MOVE_EMPTY));
	} else if (r >= 0) {
		long none = step(state, __NR_openat2, 1,
				 open_below(root, "/dev/null", O_PATH | O_NOFOLLOW, RESOLVE_NO_SYMLINKS));
		r = none;
		if (r >= 0)
			r = is_null((int)none)
				? step(state, __NR_open_tree, 0, move_clone((int)none, (int)target))
				: step(state, __NR_openat2, 1, -EPERM);
		close_fd(none);
	}
	close_fd(target);
	return r;
}

/* Binds a path over itself, read-only. */
long bunc_readonly(struct bunc_state *state, int root, const char *path)
{
	long target = open_below(root, path, O_PATH, RESOLVE_NO_MAGICLINKS);
	if (target == -ENOENT || target == -ENOTDIR)
		return 0;
	if (target < 0)
		return step(state, __NR_openat2, 0, target);
	long flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE;
	long tree = step(state, __NR_open_tree, 0, sys3(__NR_open_tree, target, "", flags)), r = tree;
	if (r >= 0)
		r = step(state, __NR_move_mount, 0, sys5(__NR_move_mount, tree, "", target, "", MOVE_EMPTY));
	if (r >= 0)
		r = step(state, __NR_mount_setattr, 0, set_attributes((int)tree, MOUNT_ATTR_RDONLY, 0, 0, 0));
	close_fd(tree);
	close_fd(target);
	return r;
}

static long open_null(int root, uint64_t flags)
{
	long fd = open_below(root, "/dev/null", flags, RESOLVE_NO_SYMLINKS);
	if (fd < 0 || is_null((int)fd))
		return fd;
	close_fd(fd);
	return -EPERM;
}

/* Standard streams that are the host's null device become the container's. */
long bunc_null_streams(int root)
{
	long none = -1;
	for (int fd = 0; fd < 3; fd++) {
		if (!is_null(fd))
			continue;
		if (none < 0) {
			/* First without opening it: that alone does something to other devices. */
			none = open_null(root, O_PATH);
			close_fd(none);
			if (none >= 0)
				none = open_null(root, O_RDWR | O_NOCTTY | O_NONBLOCK);
			if (none < 0)
				return none;
			sys3(__NR_fcntl, none, F_SETFL, O_RDWR);
		}
		sys3(__NR_dup3, none, fd, 0);
	}
	close_fd(none);
	return 0;
}

/* The standard streams belong to the program's user, unless they are the null device, which is everybody's.
 */
long bunc_own_streams(uint32_t uid)
{
	for (int fd = 0; fd < 3; fd++) {
		struct stat st;
		if (sys4(__NR_newfstatat, fd, "", &st, AT_EMPTY_PATH) < 0 || st.st_uid == uid || is_null(fd))
			continue;
		/* A read-only file system, an unmapped owner, a socket: runc goes on as well. */
		sys3(__NR_fchown, fd, uid, (uint32_t)-1);
	}
	return 0;
}
