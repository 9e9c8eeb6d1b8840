/* What reads the container's own files: the home directory of a user, and the copy that tmpcopyup asks for.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "interp.h"
#include "sys.h"

#define MAX_DEPTH 256

/* Field `wanted` of a passwd line (name:password:uid:gid:comment:home:shell), without its end. */
static const char *field(const char *line, size_t size, int wanted, size_t *length)
{
	size_t at = 0;
	for (int i = 0; i < wanted; i++) {
		while (at < size && line[at] != ':')
			at++;
		if (at == size)
			return 0;
		at++;
	}
	size_t end = at;
	while (end < size && line[end] != ':')
		end++;
	*length = end - at;
	return line + at;
}

static int home_of(const char *line, size_t size, uint64_t uid, char *out, size_t room)
{
	size_t length;
	uint64_t number = 0;
	const char *text = field(line, size, 2, &length);
	if (!text || !length || length > 10)
		return 0;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9')
			return 0;
		number = number * 10 + (uint64_t)(text[i] - '0');
	}
	if (number != uid)
		return 0;
	text = field(line, size, 5, &length);
	if (!text || !length || length + 1 > room)
		return 1;
	memcpy(out, text, length);
	out[length] = 0;
	return 1;
}

long bunc_home(const char *path, uint64_t uid, char *out, size_t size)
{
	char buffer[4096];
	size_t kept = 0, seen = 0;
	int cut = 0;
	struct stat st;
	if (size < sizeof("HOME=/"))
		return -EINVAL;
	memcpy(out, "HOME=/", sizeof("HOME=/"));
	long fd = sys4(__NR_openat, AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	/* The file is the image's: a fifo, a device or an endless file must not hold the start up. */
	if (sys4(__NR_newfstatat, fd, "", &st, AT_EMPTY_PATH) < 0 || !S_ISREG(st.st_mode))
		goto out;
	while (seen < (4u << 20)) {
		long n = sys3(__NR_read, fd, buffer + kept, sizeof(buffer) - kept);
		size_t have = kept + (n > 0 ? (size_t)n : 0), start = 0;
		seen += have;
		for (size_t i = 0; i <= have; i++) {
			if (i < have ? buffer[i] != '\n' : n > 0)
				continue;
			if (!cut && home_of(buffer + start, i - start, uid, out + 5, size - 5))
				goto out;
			cut = 0;
			start = i + 1;
		}
		if (n <= 0)
			break;
		kept = start < have ? have - start : 0;
		/* A line that does not fit is nobody's home, and neither is its end. */
		if (kept == sizeof(buffer)) {
			cut = 1;
			kept = 0;
		}
		for (size_t i = 0; i < kept; i++)
			buffer[i] = buffer[start + i];
	}
out:
	sys1(__NR_close, fd);
	return 0;
}

struct dirent64 {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

static long copy_bytes(int from, int to)
{
	for (;;) {
		long n = sys4(__NR_sendfile, to, from, 0, 1 << 20);
		if (n == -EINTR)
			continue;
		if (n <= 0)
			return n;
	}
}

/* Best effort, as cp -a: tmpfs keeps not every name space of attributes. */
static void copy_attributes(int from, int to)
{
	char names[2048], value[2048];
	long size = sys3(__NR_flistxattr, from, names, sizeof(names));
	for (long at = 0; at < size; at += (long)bunc_strlen(names + at) + 1) {
		long n = sys4(__NR_fgetxattr, from, names + at, value, sizeof(value));
		if (n >= 0)
			sys5(__NR_fsetxattr, to, names + at, value, n, 0);
	}
}

static long copy_meta(int from, int to, const struct stat *st)
{
	long r = sys3(__NR_fchown, to, st->st_uid, st->st_gid);
	if (r < 0)
		return r;
	copy_attributes(from, to);
	r = sys2(__NR_fchmod, to, st->st_mode & 07777);
	if (r < 0)
		return r;
	struct timespec times[2] = {st->st_atim, st->st_mtim};
	return sys4(__NR_utimensat, to, 0, times, 0);
}

static long copy_open(int from_dir, int to_dir, const char *name, const struct stat *st, int depth)
{
	int is_dir = S_ISDIR(st->st_mode);
	long from = sys4(__NR_openat, from_dir, name,
			 O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | (is_dir ? O_DIRECTORY : 0), 0);
	if (from < 0)
		return from;
	/* A device that has been put in a file's place meanwhile may have no end. */
	struct stat now;
	long r = sys4(__NR_newfstatat, from, "", &now, AT_EMPTY_PATH);
	if (r == 0 && (now.st_mode ^ st->st_mode) & S_IFMT)
		r = -ESTALE;
	if (r == 0 && is_dir)
		r = sys3(__NR_mkdirat, to_dir, name, 0700);
	long to = r < 0 && r != -EEXIST ? r
					: sys4(__NR_openat, to_dir, name,
					       is_dir ? O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
						      : O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
					       0600);
	r = to;
	if (to >= 0) {
		r = is_dir ? bunc_copy_up((int)from, (int)to, depth + 1) : copy_bytes((int)from, (int)to);
		if (r >= 0)
			r = copy_meta((int)from, (int)to, st);
		sys1(__NR_close, to);
	}
	sys1(__NR_close, from);
	return r;
}

static long copy_entry(int from_dir, int to_dir, const char *name, int depth)
{
	struct stat st;
	long r = sys4(__NR_newfstatat, from_dir, name, &st, AT_SYMLINK_NOFOLLOW);
	if (r < 0)
		return r;
	if (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode))
		return copy_open(from_dir, to_dir, name, &st, depth);
	if (S_ISLNK(st.st_mode)) {
		char target[4096];
		long n = sys4(__NR_readlinkat, from_dir, name, target, sizeof(target) - 1);
		if (n < 0)
			return n;
		target[n] = 0;
		r = sys3(__NR_symlinkat, target, to_dir, name);
	} else {
		r = sys4(__NR_mknodat, to_dir, name, st.st_mode, st.st_rdev);
		if (r >= 0)
			r = sys3(__NR_fchmodat, to_dir, name, st.st_mode & 07777);
	}
	if (r < 0)
		return r;
	return sys5(__NR_fchownat, to_dir, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW);
}

long bunc_copy_up(int from, int to, int depth)
{
	char buffer[2048] __attribute__((aligned(8)));
	if (depth > MAX_DEPTH)
		return -ELOOP;
	for (;;) {
		long n = sys3(__NR_getdents64, from, buffer, sizeof(buffer));
		if (n <= 0)
			return n;
		for (long at = 0; at < n;) {
			struct dirent64 *entry = (struct dirent64 *)(buffer + at);
			const char *name = entry->name;
			at += entry->reclen;
			if (name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2])))
				continue;
			long r = copy_entry(from, to, name, depth);
			if (r < 0)
				return r;
		}
	}
}
