/*
 * bunc-init: the only code of bunc that runs in a container. A freestanding static program that reads a
 * launch program from its parent, part by part, and executes it; the last operation replaces it by the user's
 * program.
 *
 * It is started as `bunc-init FD` with FD the number of its socket. It ends with 1 when an operation fails,
 * after telling the parent which, and when the parent is gone before the last part arrived.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include "interp.h"
#include "sys.h"

void *memcpy(void *to, const void *from, size_t size)
{
	char *t = to;
	const char *f = from;
	while (size--)
		*t++ = *f++;
	return to;
}

void *memset(void *to, int byte, size_t size)
{
	char *t = to;
	while (size--)
		*t++ = (char)byte;
	return to;
}

size_t bunc_strlen(const char *text)
{
	size_t size = 0;
	while (text[size])
		size++;
	return size;
}

static _Noreturn void end(int status)
{
	for (;;)
		sys1(__NR_exit_group, status);
}

static void read_all(int fd, void *into, size_t size)
{
	char *to = into;
	while (size) {
		long n = sys3(__NR_read, fd, to, size);
		if (n == -EINTR)
			continue;
		if (n <= 0)
			end(1);
		to += n;
		size -= (size_t)n;
	}
}

static void tell_failure(struct bunc_state *state)
{
	struct bunc_event event = {.kind = BUNC_EVENT_ERROR,
				   .index = state->index,
				   .event = state->step,
				   .text_size = state->text_size,
				   .value = state->error};
	bunc_send_event(state->error_fd, &event, state->text);
	end(1);
}

static uint8_t *read_part(struct bunc_state *state)
{
	struct bunc_part head;
	read_all(state->sync_fd, &head, sizeof(head));
	if (head.magic != BUNC_MAGIC || head.size < sizeof(head) || head.size > BUNC_MAX_PART)
		end(1);
	long at = sys6(__NR_mmap, 0, head.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at < 0 && at > -4096) {
		state->error = (int32_t)-at;
		state->index = head.first;
		tell_failure(state);
	}
	uint8_t *base = (uint8_t *)at;
	memcpy(base, &head, sizeof(head));
	read_all(state->sync_fd, base + sizeof(head), head.size - sizeof(head));
	long r = bunc_load(base, head.size);
	if (r < 0) {
		state->error = (int32_t)-r;
		state->index = head.first;
		tell_failure(state);
	}
	return base;
}

/* Shared with whoever asked for a trace, who can read it whatever becomes of init. Without it nothing is
 * timed. */
static void map_times(struct bunc_state *state, int fd)
{
	long at = sys6(__NR_mmap, 0, BUNC_TIMES * sizeof(struct bunc_time), PROT_READ | PROT_WRITE,
		       MAP_SHARED, fd, 0);
	sys1(__NR_close, fd);
	if (at < 0 && at > -4096)
		return;
	state->times = (uint64_t)at;
	state->ntimes = BUNC_TIMES;
}

_Noreturn __attribute__((used)) void bunc_init_main(long *stack)
{
	static struct bunc_state state;
	int fd = 0;
	if (stack[0] < 2)
		end(1);
	for (const char *c = (const char *)stack[2]; *c >= '0' && *c <= '9'; c++)
		fd = fd * 10 + (*c - '0');
	state.sync_fd = state.error_fd = fd;
	for (;;) {
		uint8_t *base = read_part(&state);
		const struct bunc_part *part = (struct bunc_part *)base;
		if (part->flags & BUNC_PART_TRACE && part->trace_fd >= 0)
			map_times(&state, part->trace_fd);
		switch (bunc_execute(base, &state)) {
		case BUNC_NEXT_PART:
			sys2(__NR_munmap, base, ((struct bunc_part *)base)->size);
			break;
		case BUNC_FAILED:
			tell_failure(&state);
			break;
		case BUNC_DONE:
			end(0);
		}
	}
}

#if defined(__x86_64__)
__asm__(".text\n.globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall "
	"bunc_init_main\n");
#elif defined(__aarch64__)
__asm__(".text\n.globl _start\n_start:\n\tmov x29, #0\n\tmov x30, #0\n\tmov x0, sp\n\tbl bunc_init_main\n");
#endif
