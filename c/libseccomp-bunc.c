/*
 * libbunc-seccomp.so: what TypeScript needs of libseccomp, which is linked in statically. It is loaded only
 * when a compiled filter is not in the cache, and decides nothing: architectures, rules, their order and the
 * meaning of every error are src/seccomp's business.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "libseccomp-bunc.h"

/* Newer than the kernel headers this may be built with. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

/* Highest API level of libseccomp 2.5, the oldest this builds with; see prepare(). */
#define API_LEVEL 6u

static unsigned int found_api_level;

/*
 * libseccomp refuses some actions when it does not find them in the running kernel. All of them are older
 * than the oldest kernel bunc runs on, and the probe can be misled by a filter that is already in force, so
 * the level is fixed: a compiled filter depends on its profile alone, and may be cached.
 */
static void prepare(void)
{
	if (found_api_level == 0) {
		found_api_level = seccomp_api_get();
		(void)seccomp_api_set(API_LEVEL);
	}
}

static const char *errno_name(int err)
{
	switch (err) {
#define NAME(e)                                                                                              \
	case e:                                                                                              \
		return #e
		NAME(E2BIG);
		NAME(EACCES);
		NAME(ECANCELED);
		NAME(EDOM);
		NAME(EEXIST);
		NAME(EFAULT);
		NAME(EINVAL);
		NAME(EIO);
		NAME(EMFILE);
		NAME(ENFILE);
		NAME(ENOENT);
		NAME(ENOMEM);
		NAME(ENOSYS);
		NAME(EOPNOTSUPP);
		NAME(EPERM);
		NAME(ESRCH);
#undef NAME
	default:
		return "EUNKNOWN";
	}
}

static int32_t fail(struct failure *failure, enum stage stage, uint32_t index, int err)
{
	failure->stage = stage;
	failure->index = index;
	strncpy(failure->name, errno_name(err), sizeof(failure->name) - 1);
	failure->name[sizeof(failure->name) - 1] = '\0';
	return -1;
}

static int32_t export_to(int fd, scmp_filter_ctx ctx, uint8_t *program, uint32_t size,
			 struct failure *failure)
{
	uint32_t done = 0;
	off_t length;
	int rc = seccomp_export_bpf(ctx, fd);

	if (rc < 0)
		return fail(failure, STAGE_EXPORT, 0, -rc);
	length = lseek(fd, 0, SEEK_END);
	if (length <= 0 || length % sizeof(struct sock_filter) != 0)
		return fail(failure, STAGE_EXPORT, 0, length < 0 ? errno : EIO);
	if (length > size)
		return fail(failure, STAGE_SIZE, length > UINT32_MAX ? UINT32_MAX : length, E2BIG);
	while (done < length) {
		ssize_t n = pread(fd, program + done, length - done, done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fail(failure, STAGE_EXPORT, 0, n < 0 ? errno : EIO);
		done += n;
	}
	return done;
}

/* Writes the filter's program into the buffer: libseccomp exports only to a descriptor. */
static int32_t export_program(scmp_filter_ctx ctx, uint8_t *program, uint32_t size, struct failure *failure)
{
	int32_t written;
	int fd = memfd_create("seccomp", MFD_CLOEXEC | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create("seccomp", MFD_CLOEXEC);
	if (fd < 0)
		return fail(failure, STAGE_EXPORT, 0, errno);
	written = export_to(fd, ctx, program, size, failure);
	close(fd);
	return written;
}

static int32_t add_rule(scmp_filter_ctx ctx, const struct rule *rule, const uint8_t *args, uint32_t index,
			struct failure *failure)
{
	struct scmp_arg_cmp conditions[6];
	uint32_t i;
	int rc;

	for (i = 0; i < rule->nargs; i++) {
		struct arg arg;

		memcpy(&arg, args + i * sizeof(arg), sizeof(arg));
		conditions[i].arg = arg.index;
		conditions[i].op = (enum scmp_compare)arg.op;
		conditions[i].datum_a = (uint64_t)arg.a_high << 32 | arg.a_low;
		conditions[i].datum_b = (uint64_t)arg.b_high << 32 | arg.b_low;
	}
	rc = seccomp_rule_add_array(ctx, rule->action, rule->syscall, rule->nargs, conditions);
	return rc < 0 ? fail(failure, STAGE_RULE, index, -rc) : 0;
}

static int32_t build(scmp_filter_ctx ctx, const struct request *request, const uint8_t *body,
		     uint8_t *program, uint32_t program_size, struct failure *failure)
{
	const uint8_t *rules = body + (uint64_t)request->narchs * sizeof(uint32_t);
	const uint8_t *args = rules + (uint64_t)request->nrules * sizeof(struct rule);
	uint32_t args_left = request->nargs;
	uint32_t i;
	int rc;

	for (i = 0; i < request->narchs; i++) {
		uint32_t arch;

		memcpy(&arch, body + i * sizeof(arch), sizeof(arch));
		rc = seccomp_arch_add(ctx, arch);
		if (rc < 0 && rc != -EEXIST)
			return fail(failure, STAGE_ARCH, i, -rc);
	}
	rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, request->optimize);
	if (rc < 0)
		return fail(failure, STAGE_OPTIMIZE, 0, -rc);
	for (i = 0; i < request->nrules; i++) {
		struct rule rule;

		memcpy(&rule, rules + (uint64_t)i * sizeof(rule), sizeof(rule));
		if (rule.nargs > 6 || rule.nargs > args_left)
			return fail(failure, STAGE_RULE, i, EINVAL);
		if (add_rule(ctx, &rule, args, i, failure) < 0)
			return -1;
		args += rule.nargs * sizeof(struct arg);
		args_left -= rule.nargs;
	}
	if (args_left != 0)
		return fail(failure, STAGE_REQUEST, 0, EINVAL);
	return export_program(ctx, program, program_size, failure);
}

/*
 * Compiles a request into an array of struct sock_filter in `program`. Returns the bytes written, or -1 with
 * `failure` filled in. The buffer needs no more than BPF_MAXINSNS instructions: a longer program is useless.
 */
EXPORT int32_t bunc_seccomp_compile(const uint8_t *bytes, uint32_t size, uint8_t *program,
				    uint32_t program_size, struct failure *failure)
{
	struct request request;
	scmp_filter_ctx ctx;
	uint64_t wanted; /* at most 44 MiB, by MAX_COUNT */
	int32_t written;

	if (size < sizeof(request))
		return fail(failure, STAGE_REQUEST, size, EINVAL);
	memcpy(&request, bytes, sizeof(request));
	if (request.version != FORMAT_VERSION || request.narchs > MAX_COUNT || request.nrules > MAX_COUNT ||
	    request.nargs > MAX_COUNT)
		return fail(failure, STAGE_REQUEST, 0, EINVAL);
	wanted = sizeof(request) + (uint64_t)request.narchs * sizeof(uint32_t) +
		 (uint64_t)request.nrules * sizeof(struct rule) +
		 (uint64_t)request.nargs * sizeof(struct arg);
	if (size != wanted)
		return fail(failure, STAGE_REQUEST, (uint32_t)wanted, EINVAL);

	prepare();
	ctx = seccomp_init(request.default_action);
	if (ctx == NULL)
		return fail(failure, STAGE_INIT, 0, EINVAL);
	written = build(ctx, &request, bytes + sizeof(request), program, program_size, failure);
	seccomp_release(ctx);
	return written;
}

/*
 * Resolves system call names on architectures: numbers[a * nnames + n] is that of name n on archs[a],
 * negative where the architecture does not have it, __NR_SCMP_ERROR (-1) where libseccomp does not know the
 * name. `names` holds nnames strings, each ended by NUL. Returns 0, or -EINVAL when `size` does not fit that.
 */
EXPORT int32_t bunc_seccomp_resolve(const uint32_t *archs, uint32_t narchs, const char *names, uint32_t size,
				    uint32_t nnames, int32_t *numbers)
{
	const char *name = names;
	const char *end = names + size;
	uint32_t n, a;

	for (n = 0; n < nnames; n++) {
		const char *nul = name < end ? memchr(name, '\0', end - name) : NULL;

		if (nul == NULL)
			return -EINVAL;
		for (a = 0; a < narchs; a++)
			numbers[(uint64_t)a * nnames + n] = seccomp_syscall_resolve_name_arch(archs[a], name);
		name = nul + 1;
	}
	return name == end ? 0 : -EINVAL;
}

/* The token of an architecture by libseccomp's name for it ("x86_64"), 0 when it does not know the name. */
EXPORT uint32_t bunc_seccomp_arch(const char *name)
{
	return seccomp_arch_resolve_name(name);
}

/* A flag the kernel takes makes it look at the (null) program; one it does not take is EINVAL before that. */
static uint32_t kernel_flag(uint32_t flag, uint32_t with)
{
	long rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flag | with, NULL);

	return rc < 0 && errno == EFAULT ? flag : 0;
}

/* Facts about libseccomp and the running kernel. */
EXPORT void bunc_seccomp_info(struct info *info)
{
	const struct scmp_version *version = seccomp_version();

	prepare();
	*info = (struct info){
	    .format = FORMAT_VERSION,
	    .major = version->major,
	    .minor = version->minor,
	    .micro = version->micro,
	    .api_level = found_api_level,
	    .native = seccomp_arch_native(),
	    .x86_64 = SCMP_ARCH_X86_64,
	    .x32 = SCMP_ARCH_X32,
	    .s390 = SCMP_ARCH_S390,
	    .s390x = SCMP_ARCH_S390X,
	    .enosys = SCMP_ACT_ERRNO(ENOSYS),
	    .max_instructions = BPF_MAXINSNS,
	};
	info->kernel_flags =
	    kernel_flag(SECCOMP_FILTER_FLAG_TSYNC, 0) | kernel_flag(SECCOMP_FILTER_FLAG_LOG, 0) |
	    kernel_flag(SECCOMP_FILTER_FLAG_SPEC_ALLOW, 0) |
	    kernel_flag(SECCOMP_FILTER_FLAG_NEW_LISTENER, 0) |
	    kernel_flag(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, SECCOMP_FILTER_FLAG_NEW_LISTENER);
}
