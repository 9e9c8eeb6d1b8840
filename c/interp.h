/* The interpreter of launch programs, shared by bunc-init and libbunc. */
#ifndef BUNC_INTERP_H
#define BUNC_INTERP_H

#include <stddef.h>
#include "bunc.h"

/* What the program asked for after an operation: go on, read the next part, or stop because of st->error. */
enum bunc_outcome { BUNC_DONE, BUNC_NEXT_PART, BUNC_FAILED };

/*
 * Checks that a part of `size` bytes at `base` is well formed and turns its data offsets into addresses.
 * 0, or -EINVAL / -EFBIG. The memory must be writable and 8-byte aligned.
 */
int bunc_load(uint8_t *base, size_t size);

/* Executes a loaded part. On BUNC_FAILED, state says which operation failed, with which errno, and why. */
enum bunc_outcome bunc_execute(uint8_t *base, struct bunc_state *state);

/* Writes an event and its text to a socket or fifo; 0 or -errno. */
long bunc_send_event(int fd, const struct bunc_event *event, const char *text);

/* Writes all, over short writes and EINTR; 0 or -errno. */
long bunc_write_all(int fd, const void *bytes, size_t size);

/* Sends bytes and one descriptor (SCM_RIGHTS) over a unix socket; 0 or -errno. */
long bunc_send_fd(int sock, int fd, const void *bytes, size_t size);

/* Carries out a composite operation with these arguments; index: its place in the program. */
long bunc_composite(const struct bunc_op *op, struct bunc_state *state, uint32_t index, const uint64_t *a);

/* Composites with a file of their own; each gives a value >= 0 or -errno. */
long bunc_mkpath(int root, const char *path, unsigned int kind, unsigned int mode);
long bunc_hook(struct bunc_state *state, const struct bunc_hook *hook);
long bunc_copy_up(int from, int to, int depth);
long bunc_home(const char *path, uint64_t uid, char *out, size_t size);

long bunc_mount(struct bunc_state *state, int root, const char *path, const struct bunc_mount *mount);
long bunc_set_attributes(int root, const char *path, uint64_t set, uint64_t clear);
long bunc_device(struct bunc_state *state, int dir, const char *name, const struct bunc_device *device);
long bunc_mask(struct bunc_state *state, int root, const char *path, int empty, uint64_t magic);
long bunc_readonly(struct bunc_state *state, int root, const char *path, uint64_t magic);
long bunc_null_streams(int root);
long bunc_own_streams(uint32_t uid);
long bunc_netlink(struct bunc_state *state, int sock, const void *message, size_t size);

/* The few string functions that are needed; gcc may call the first two on its own. */
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
size_t bunc_strlen(const char *text);

/* Appends text to the explanation of a failure, cut at BUNC_TEXT_MAX. */
void bunc_say(struct bunc_state *state, const char *text, size_t size);

/* Appends what an fscontext keeps of the kernel's own words. */
void bunc_read_fs_log(struct bunc_state *state, int fd);

#endif
