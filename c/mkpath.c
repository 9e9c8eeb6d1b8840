/*
 * Making a path below a root descriptor (mount targets, the working directory): missing directories are made,
 * and nothing outside of the root is ever reached, whatever symbolic links a hostile rootfs holds or swaps
 * meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <linux/openat2.h>
#include "interp.h"
#include "sys.h"

#define PATH_SIZE 4096
#define MAX_LINKS 40

static long open_in(int root, const char *path, uint64_t flags)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC | flags,
			       .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	long fd;
	do
		/* EAGAIN: a rename or mount elsewhere made the kernel unsure about ".."; ask again. */
		fd = sys4(__NR_openat2, root, path, &how, sizeof(how));
	while (fd == -EAGAIN || fd == -EINTR);
	return fd;
}

/*
 * Makes component `name` in directory `dir`; the final one of a file path becomes an empty file. Gives an
 * O_PATH descriptor, or -ELOOP when a symbolic link stands there.
 */
static long make_one(int dir, const char *name, int file, unsigned int mode)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC | O_NOFOLLOW,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV};
	long r;
	if (file) {
		r = sys4(__NR_openat, dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			 mode & 0666);
		if (r >= 0)
			sys1(__NR_close, r);
	} else {
		r = sys3(__NR_mkdirat, dir, name, mode);
	}
	if (r < 0 && r != -EEXIST)
		return r;
	long fd = sys4(__NR_openat2, dir, name, &how, sizeof(how));
	if (fd < 0)
		return fd;
	struct stat st;
	r = sys4(__NR_newfstatat, fd, "", &st, AT_EMPTY_PATH);
	if (r == 0 && S_ISLNK(st.st_mode))
		r = -ELOOP;
	else if (r == 0 && !file && !S_ISDIR(st.st_mode))
		r = -ENOTDIR;
	if (r < 0) {
		sys1(__NR_close, fd);
		return r;
	}
	return fd;
}

/* path = path[0..at) "/" target rest, or target rest when the link is absolute. */
static long splice_link(char *path, size_t at, size_t end, int dir, const char *name)
{
	char target[PATH_SIZE], whole[PATH_SIZE];
	long n = sys4(__NR_readlinkat, dir, name, target, sizeof(target));
	if (n < 0)
		return n;
	size_t rest = bunc_strlen(path + end), size = 0;
	if ((size_t)n == sizeof(target) || at + 1 + (size_t)n + rest + 1 > sizeof(whole))
		return -ENAMETOOLONG;
	if (target[0] != '/') {
		memcpy(whole, path, at);
		size = at;
		whole[size++] = '/';
	}
	memcpy(whole + size, target, (size_t)n);
	size += (size_t)n;
	memcpy(whole + size, path + end, rest + 1);
	memcpy(path, whole, size + rest + 1);
	return 0;
}

/*
 * The longest part of the path that exists, as a descriptor; *done is its length. A link that leads nowhere
 * ends it: its target is made then, because images hold such links where engines bind files
 * (/etc/resolv.conf).
 */
static long open_longest(int root, char *path, size_t *done)
{
	size_t end = bunc_strlen(path);
	for (;;) {
		char kept = path[end];
		path[end] = 0;
		long fd = open_in(root, end ? path : ".", 0);
		path[end] = kept;
		if (fd != -ENOENT || end == 0) {
			*done = end;
			return fd;
		}
		while (end && path[end - 1] != '/')
			end--;
		while (end && path[end - 1] == '/')
			end--;
	}
}

static int is_dots(const char *name, size_t size)
{
	return size == 2 && name[0] == '.' && name[1] == '.';
}

long bunc_mkpath(int root, const char *wanted, unsigned int kind, unsigned int mode)
{
	char path[PATH_SIZE], name[256];
	size_t size = bunc_strlen(wanted);
	int links = 0;
	if (size >= sizeof(path))
		return -ENAMETOOLONG;
	memcpy(path, wanted, size + 1);
restart:;
	size_t done;
	long dir = open_longest(root, path, &done);
	if (dir < 0)
		return dir;
	size_t at = done;
	for (;;) {
		size_t start = at;
		while (path[start] == '/')
			start++;
		if (!path[start])
			return dir;
		size_t end = start;
		while (path[end] && path[end] != '/')
			end++;
		size_t after = end;
		while (path[after] == '/')
			after++;
		long r = -ENAMETOOLONG;
		if (end - start < sizeof(name)) {
			memcpy(name, path + start, end - start);
			name[end - start] = 0;
			if (end - start == 1 && name[0] == '.') {
				at = end;
				continue;
			}
			/* ".." below a directory that does not exist yet names nothing safe. */
			r = is_dots(name, end - start)
				? -EINVAL
				: make_one((int)dir, name, !S_ISDIR(kind) && !path[after], mode);
		}
		if (r == -ELOOP && ++links <= MAX_LINKS) {
			r = splice_link(path, at, end, (int)dir, name);
			if (r == 0) {
				sys1(__NR_close, dir);
				goto restart;
			}
		}
		sys1(__NR_close, dir);
		if (r < 0)
			return r;
		dir = r;
		at = end;
	}
}
