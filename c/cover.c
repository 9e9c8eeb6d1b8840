/*
 * What covers something below the container's root or stands in for it: devices, masked and read-only paths,
 * the null device as a standard stream. As in mount.c all is done on descriptors, opened below the root.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "mount.h"

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
 * Opens what is to be covered. Where the path's first component is to be the root of a file system (its
 * magic), it must be just that: a rootfs in which somebody swaps directories meanwhile could have another one
 * there, in which the rest of the path is not found, and nothing would be covered.
 */
static long open_covered(int root, const char *path, uint64_t magic)
{
	struct statfs_head fs;
	char first[64];
	size_t end = 1;
	if (!magic)
		return open_below(root, path, O_PATH, RESOLVE_NO_MAGICLINKS);
	while (path[end] && path[end] != '/')
		end++;
	if (end >= sizeof(first))
		return -ENAMETOOLONG;
	memcpy(first, path, end);
	first[end] = 0;
	long dir = open_below(root, first, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
	if (dir < 0)
		return -EPERM;
	long r = -EPERM;
	if (sys2(__NR_fstatfs, dir, &fs) == 0 && (uint64_t)fs.type == magic)
		r = open_below((int)dir, path[end] ? path + end : ".", O_PATH, RESOLVE_NO_MAGICLINKS);
	close_fd(dir);
	return r;
}

/*
 * Covers a directory by a clone of the empty tmpfs, anything else by the null device. Before Linux 6.15 a
 * detached mount cannot be cloned: then the first directory gets the tmpfs itself, and the next ones clones
 * of that.
 */
long bunc_mask(struct bunc_state *state, int root, const char *path, int empty, uint64_t magic)
{
	struct stat st;
	long target = open_covered(root, path, magic);
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
long bunc_readonly(struct bunc_state *state, int root, const char *path, uint64_t magic)
{
	long target = open_covered(root, path, magic);
	if (target == -ENOENT || target == -ENOTDIR)
		return 0;
	if (target < 0)
		return step(state, __NR_openat2, 0, target);
	long flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE;
	long tree = step(state, __NR_open_tree, 0, sys3(__NR_open_tree, target, "", flags)), r = tree;
	if (r >= 0)
		r = step(state, __NR_move_mount, 0, sys5(__NR_move_mount, tree, "", target, "", MOVE_EMPTY));
	if (r >= 0)
		r = step(state, __NR_mount_setattr, 0,
			 bunc_change_mount((int)tree, MOUNT_ATTR_RDONLY, 0, 0, 0));
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
