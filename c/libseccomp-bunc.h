/*
 * The one definition of the binary formats that libbunc-seccomp.so shares with src/seccomp/native.ts.
 * bunc_seccomp_layout() tells their sizes and offsets, and a test compares them with the encoder's.
 */
#ifndef LIBSECCOMP_BUNC_H
#define LIBSECCOMP_BUNC_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

/* Flags newer than the kernel headers this may be built with. */
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

#define FORMAT_VERSION 1u

/* Far above what fits into a program; keeps the sizes of a request within 32 bits. */
#define MAX_COUNT (1u << 20)

/*
 * A request: this header, then archs as uint32_t (SCMP_ARCH_* tokens), then rules, then the arguments of all
 * rules one after another. Nothing is aligned beyond 4 bytes. Native byte order.
 */
struct request {
	uint32_t version; /* FORMAT_VERSION */
	uint32_t default_action;
	uint32_t optimize; /* SCMP_FLTATR_CTL_OPTIMIZE: 1 or 2 */
	uint32_t narchs;   /* besides the native one, which is always there */
	uint32_t nrules;
	uint32_t nargs;
};

struct rule {
	uint32_t action;
	int32_t syscall; /* number on the native architecture, or libseccomp's negative pseudo number */
	uint32_t nargs;	 /* how many of the arguments belong to this rule: all must match */
};

struct arg {
	uint32_t index;
	uint32_t op; /* enum scmp_compare */
	uint32_t a_low, a_high;
	uint32_t b_low, b_high;
};

/* What failed, and at which element of its list. */
enum stage {
	STAGE_REQUEST = 1, /* the description is malformed; index: byte offset */
	STAGE_INIT,	   /* the default action */
	STAGE_ARCH,	   /* index: of the architecture */
	STAGE_OPTIMIZE,
	STAGE_RULE,   /* index: of the rule */
	STAGE_EXPORT, /* reading the program back */
	STAGE_SIZE,   /* it does not fit into the caller's buffer; index: bytes it has */
};

struct failure {
	uint32_t stage;
	uint32_t index;
	char name[16]; /* of the errno, ended by NUL */
};

struct info {
	uint32_t format;
	uint32_t major, minor, micro; /* of libseccomp */
	uint32_t api_level;	      /* as libseccomp found it on this kernel */
	uint32_t native;	      /* token of the native architecture */
	uint32_t x86_64, x32;	      /* the two tokens that share one AUDIT_ARCH */
	uint32_t s390, s390x;	      /* the two that multiplex unknown system calls */
	uint32_t kernel_flags;	      /* SECCOMP_FILTER_FLAG_* the running kernel takes */
	uint32_t enosys;	      /* SCMP_ACT_ERRNO(ENOSYS) */
	uint32_t max_instructions;    /* BPF_MAXINSNS */
};

#endif
