/*
 * The interpreter of launch programs: executes one operation after the other and stops at the first failure
 * that the program does not tolerate. It decides nothing: every path, flag and order comes from TypeScript.
 */
#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <sys/socket.h>
#include "interp.h"
#include "sys.h"

int bunc_load(uint8_t *base, size_t size)
{
	struct bunc_part *part = (struct bunc_part *)base;
	if (size < sizeof(*part) || part->magic != BUNC_MAGIC || part->size != size)
		return -EINVAL;
	if (size > BUNC_MAX_PART)
		return -EFBIG;
	uint64_t want = sizeof(*part) + (uint64_t)part->nops * sizeof(struct bunc_op) +
			(uint64_t)part->nrelocs * sizeof(uint32_t) + part->data_size;
	if (want != size)
		return -EINVAL;
	struct bunc_op *ops = (struct bunc_op *)(part + 1);
	uint32_t *relocs = (uint32_t *)(ops + part->nops);
	uint8_t *data = (uint8_t *)(relocs + part->nrelocs);
	for (uint32_t i = 0; i < part->nrelocs; i++) {
		uint64_t word;
		if ((uint64_t)relocs[i] + sizeof(word) > part->data_size)
			return -EINVAL;
		__builtin_memcpy(&word, data + relocs[i], sizeof(word));
		if (word > part->data_size)
			return -EINVAL;
		word += (uintptr_t)data;
		__builtin_memcpy(data + relocs[i], &word, sizeof(word));
	}
	for (uint32_t i = 0; i < part->nops; i++) {
		struct bunc_op *op = &ops[i];
		if (op->slot != BUNC_NO_SLOT && op->slot >= BUNC_SLOTS)
			return -EINVAL;
		if (op->log_slot > BUNC_SLOTS)
			return -EINVAL;
		for (int a = 0; a < 6; a++) {
			unsigned int tag = (op->tags >> (4 * a)) & 15;
			if (tag == BUNC_ARG_DATA) {
				if (op->args[a] > part->data_size)
					return -EINVAL;
				op->args[a] += (uintptr_t)data;
			} else if (tag == BUNC_ARG_SLOT) {
				if (op->args[a] >= BUNC_SLOTS)
					return -EINVAL;
			} else if (tag != BUNC_ARG_IMM) {
				return -EINVAL;
			}
		}
	}
	return 0;
}

void bunc_say(struct bunc_state *state, const char *text, size_t size)
{
	size_t room = BUNC_TEXT_MAX - state->text_size;
	if (size > room)
		size = room;
	memcpy(state->text + state->text_size, text, size);
	state->text_size += (uint32_t)size;
}

long bunc_write_all(int fd, const void *bytes, size_t size)
{
	const char *from = bytes;
	while (size) {
		long n = sys3(__NR_write, fd, from, size);
		if (n == -EINTR)
			continue;
		if (n < 0)
			return n;
		if (n == 0)
			return -EIO;
		from += n;
		size -= (size_t)n;
	}
	return 0;
}

long bunc_send_fd(int sock, int fd, const void *bytes, size_t size)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = (void *)bytes, .iov_len = size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	memset(&control, 0, sizeof(control));
	if (fd >= 0) {
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
	}
	long n;
	do
		n = sys3(__NR_sendmsg, sock, &msg, MSG_NOSIGNAL);
	while (n == -EINTR);
	if (n < 0)
		return n;
	return (size_t)n == size ? 0 : bunc_write_all(sock, (const char *)bytes + n, size - (size_t)n);
}

/* With write(2) only: a seccomp filter that is already loaded may ask an agent about every other call. */
long bunc_send_event(int sock, const struct bunc_event *event, const char *text)
{
	struct {
		struct bunc_event event;
		char text[BUNC_TEXT_MAX];
	} message;
	message.event = *event;
	if (event->text_size > BUNC_TEXT_MAX)
		return -EINVAL;
	memcpy(message.text, text, event->text_size);
	return bunc_write_all(sock, &message, sizeof(*event) + event->text_size);
}

/* An fscontext keeps the kernel's own words about what it refused; they are worth more than the errno. */
void bunc_read_fs_log(struct bunc_state *state, int fd)
{
	char line[256];
	for (int i = 0; i < 4; i++) {
		long n = sys3(__NR_read, fd, line, sizeof(line));
		if (n <= 0)
			return;
		if (state->text_size)
			bunc_say(state, "; ", 2);
		/* "e tmpfs: ...": the letter is the level. */
		size_t skip = n > 2 && line[1] == ' ' ? 2 : 0;
		while (n > 0 && line[n - 1] == '\n')
			n--;
		bunc_say(state, line + skip, (size_t)n - skip);
	}
}

/* Where the time of this operation is kept; 0 for those that are not timed. */
static struct bunc_time *time_of(const struct bunc_part *part, const struct bunc_state *state, uint32_t index)
{
	if (!(part->flags & BUNC_PART_TRACE) || index >= part->trace_end || index >= state->ntimes)
		return 0;
	return (struct bunc_time *)(uintptr_t)state->times + index;
}

static uint64_t clock_now(void)
{
	struct timespec now = {0, 0};
	sys2(__NR_clock_gettime, CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int tolerated(uint8_t spec, long error)
{
	return spec == BUNC_ERR_ANY || (spec != BUNC_ERR_NONE && spec == error);
}

enum bunc_outcome bunc_execute(uint8_t *base, struct bunc_state *state)
{
	struct bunc_part *part = (struct bunc_part *)base;
	struct bunc_op *ops = (struct bunc_op *)(part + 1);
	for (uint32_t i = 0; i < part->nops; i++) {
		struct bunc_op *op = &ops[i];
		uint32_t index = part->first + i;
		uint64_t a[6];
		for (int k = 0; k < 6; k++)
			a[k] = ((op->tags >> (4 * k)) & 15) == BUNC_ARG_SLOT
				   ? (uint64_t)state->slots[op->args[k]]
				   : op->args[k];
		long r;
		struct bunc_time *time = time_of(part, state, index);
		state->text_size = 0;
		state->step = 0;
		if (time)
			time->start = clock_now();
#ifdef BUNC_FAULTS
		if (part->fail_at == index + 1)
			r = -(long)part->fail_errno;
		else
#endif
		    if (op->code >= BUNC_OP_FIRST)
			r = bunc_composite(op, state, index, a);
		else
			do
				r = sys6(op->code, (long)a[0], (long)a[1], (long)a[2], (long)a[3], (long)a[4],
					 (long)a[5]);
			while (r == -EINTR);
		if (time) {
			time->result = r;
			time->end = clock_now();
		}
		if (op->slot != BUNC_NO_SLOT)
			state->slots[op->slot] = r;
		if (r >= 0 || r < -4095) {
			if (op->code == BUNC_OP_PART)
				return BUNC_NEXT_PART;
			i += op->ok_skip;
			continue;
		}
#ifdef BUNC_FAULTS
		if (part->fail_at == index + 1) {
			/* An injected failure is never tolerated: the walk over N tests every operation. */
		} else
#endif
		    if (tolerated(op->err1, -r)) {
			i += op->skip1;
			continue;
		} else if (tolerated(op->err2, -r)) {
			i += op->skip2;
			continue;
		}
		if (op->log_slot)
			bunc_read_fs_log(state, (int)state->slots[op->log_slot - 1]);
		state->error = (int32_t)-r;
		state->index = index;
		return BUNC_FAILED;
	}
	return BUNC_DONE;
}
