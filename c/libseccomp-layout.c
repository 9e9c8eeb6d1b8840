/* Tells how libseccomp-bunc.h lays its formats out: only a test asks. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <string.h>
#include "libseccomp-bunc.h"

/*
 * The layout of the formats and the constants TypeScript repeats, for the test that compares them: at
 * most `max` numbers are written; returns how many there are.
 */
EXPORT uint32_t bunc_seccomp_layout(uint32_t *out, uint32_t max)
{
	static const uint32_t layout[] = {
	    FORMAT_VERSION,
	    sizeof(struct request),
	    offsetof(struct request, version),
	    offsetof(struct request, default_action),
	    offsetof(struct request, optimize),
	    offsetof(struct request, narchs),
	    offsetof(struct request, nrules),
	    offsetof(struct request, nargs),
	    sizeof(struct rule),
	    offsetof(struct rule, action),
	    offsetof(struct rule, syscall),
	    offsetof(struct rule, nargs),
	    sizeof(struct arg),
	    offsetof(struct arg, index),
	    offsetof(struct arg, op),
	    offsetof(struct arg, a_low),
	    offsetof(struct arg, a_high),
	    offsetof(struct arg, b_low),
	    offsetof(struct arg, b_high),
	    sizeof(struct failure),
	    offsetof(struct failure, stage),
	    offsetof(struct failure, index),
	    offsetof(struct failure, name),
	    sizeof(((struct failure *)0)->name),
	    sizeof(struct info),
	    STAGE_REQUEST,
	    STAGE_INIT,
	    STAGE_ARCH,
	    STAGE_OPTIMIZE,
	    STAGE_RULE,
	    STAGE_EXPORT,
	    STAGE_SIZE,
	    SCMP_ACT_KILL_PROCESS,
	    SCMP_ACT_KILL_THREAD,
	    SCMP_ACT_TRAP,
	    SCMP_ACT_ERRNO(0),
	    SCMP_ACT_TRACE(0),
	    SCMP_ACT_LOG,
	    SCMP_ACT_ALLOW,
	    SCMP_ACT_NOTIFY,
	    SCMP_CMP_NE,
	    SCMP_CMP_LT,
	    SCMP_CMP_LE,
	    SCMP_CMP_EQ,
	    SCMP_CMP_GE,
	    SCMP_CMP_GT,
	    SCMP_CMP_MASKED_EQ,
	    SECCOMP_FILTER_FLAG_LOG,
	    SECCOMP_FILTER_FLAG_SPEC_ALLOW,
	    SECCOMP_FILTER_FLAG_NEW_LISTENER,
	    SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
	    (uint32_t)__NR_SCMP_ERROR,
	    BPF_LD | BPF_W | BPF_ABS,
	    BPF_JMP | BPF_JA,
	    BPF_JMP | BPF_JEQ | BPF_K,
	    BPF_JMP | BPF_JGT | BPF_K,
	    BPF_JMP | BPF_JSET | BPF_K,
	    BPF_RET | BPF_K,
	    offsetof(struct seccomp_data, nr),
	    offsetof(struct seccomp_data, arch),
	};
	const uint32_t count = sizeof(layout) / sizeof(layout[0]);

	memcpy(out, layout, (max < count ? max : count) * sizeof(layout[0]));
	return count;
}
