/*
 * The launch program: the one definition of its binary format, shared by bunc-init, libbunc and (through
 * abi.c) the encoder in TypeScript. TypeScript decides; what reads this format only executes.
 *
 * A program comes in parts. A part is one header, then its operations, then the offsets of the pointers in
 * its data, then the data. Slots keep results for later operations and live across parts; data does not.
 */
#ifndef BUNC_H
#define BUNC_H

#include <stdint.h>

#define BUNC_MAGIC 0x636e7562u /* "bunc" */
#define BUNC_MAX_PART (64u << 20)
#define BUNC_SLOTS 64
#define BUNC_NO_SLOT 0xff

struct bunc_part {
	uint32_t magic;
	uint32_t size; /* bytes of the whole part, this header included */
	uint32_t nops;
	uint32_t nrelocs;
	uint32_t data_size;
	uint32_t first;	     /* index of the part's first operation in the whole program */
	uint32_t flags;	     /* BUNC_PART_* */
	uint32_t fail_at;    /* test builds: index of the operation that fails, plus one; 0 for none */
	uint32_t fail_errno; /* test builds: with this errno */
	int32_t trace_fd;    /* with BUNC_PART_TRACE, in init: an array of struct bunc_time to map shared;
				or -1 */
	uint32_t trace_end;  /* with BUNC_PART_TRACE: operations from this index on are not timed */
	uint32_t reserved;
};

#define BUNC_PART_TRACE 1u /* keep the time of each operation (struct bunc_time) */

/* When an operation ran: nanoseconds of CLOCK_MONOTONIC, as its time namespace has it. By index in the
 * program. */
struct bunc_time {
	uint64_t start; /* 0: it did not run */
	uint64_t end;	/* 0: it has not ended, or was an execve */
	int64_t result;
};

#define BUNC_TIMES 8192 /* as many operations have a time; the others go without */

/* How an argument is to be read: four bits each, the first argument in the lowest. */
#define BUNC_ARG_IMM 0u	 /* as it stands */
#define BUNC_ARG_DATA 1u /* offset into the part's data; becomes a pointer */
#define BUNC_ARG_SLOT 2u /* number of a slot; becomes its value */

/* In err1 and err2: an errno that does not end the program. ANY stands for each of them. */
#define BUNC_ERR_NONE 0
#define BUNC_ERR_ANY 0xff

struct bunc_op {
	uint16_t code; /* a system call number, or BUNC_OP_* */
	uint16_t spare;
	uint32_t tags;
	uint8_t slot;	     /* where the result goes (a tolerated error: -errno), or BUNC_NO_SLOT */
	uint8_t ok_skip;     /* operations to skip after success */
	uint8_t err1, skip1; /* a tolerated errno, and the operations to skip then */
	uint8_t err2, skip2;
	uint16_t log_slot; /* slot + 1 of an fscontext whose log explains a failure; 0 for none */
	uint64_t args[6];
};

/* Composite operations: several calls in a row that cannot be a list decided beforehand. */
enum bunc_op_code {
	BUNC_OP_FIRST = 0xf000,
	/* (event, value): tell the parent unless event is 0, then wait for its next part, which replaces this
	   one. */
	BUNC_OP_PART = 0xf000,
	/* (event, value): tell the parent and go on. */
	BUNC_OP_REPORT,
	/* (root fd, path, BUNC_MKPATH_*, mode): make what is missing of the path below the root; an O_PATH
	   fd. */
	BUNC_OP_MKPATH,
	/* (socket, fd, bytes, length): send the bytes with the descriptor (SCM_RIGHTS). */
	BUNC_OP_SENDFD,
	/* (struct bunc_hook): run a hook and wait for it; errno ETIMEDOUT, or BUNC_EHOOK with its status as
	   text. */
	BUNC_OP_HOOK,
	/* (candidates, each ended by NUL, the last by two): the first that can be executed; its address. */
	BUNC_OP_LOOKPATH,
	/* (path, uid, buffer, size): write "HOME=<directory>" of the uid in a passwd file, "/" when it has
	   none. */
	BUNC_OP_HOME,
	/* (from fd, to fd): copy a directory's content with owners, modes, times and extended attributes. */
	BUNC_OP_COPYUP,
	/* (value, mask, wanted, errno): fail with the errno unless (value & mask) == wanted. */
	BUNC_OP_EXPECT,
	/* (address, size 4 or 8, and, or): the word there becomes (word & and) | or. */
	BUNC_OP_PATCH,
	/* (address, size 1, 2, 4 or 8): the word there. */
	BUNC_OP_LOAD,
	/* (keep mask): drop all other capabilities that this kernel knows from the bounding set. */
	BUNC_OP_DROP_BOUNDING,
	/* (path): fail with ENOENT unless the working directory lies below the root (CVE-2024-21626). */
	BUNC_OP_CHECK_CWD,
	/* (clone flags): go on in a new process that has the same parent; this one reports its pid and ends.
	 */
	BUNC_OP_FORK,
	/* (socket, message, length): send a netlink request and wait for its acknowledgement. */
	BUNC_OP_NETLINK,
	/* (fd, bytes, length): write all of it, or fail. */
	BUNC_OP_WRITE,
	/* (dir fd, path, flags, bytes, length): openat, write all, close. */
	BUNC_OP_WRITE_AT,
	/* (fd): tell failures from now on to this descriptor (the exec fifo) instead of the parent. */
	BUNC_OP_ERRORS_TO,
	/* (ends): all signals to their default action, none blocked. Unless `ends` is 0, those that ask a
	 * process to end do so even where it is the init of a PID namespace, which the kernel keeps from
	 * them. */
	BUNC_OP_RESET_SIGNALS,
	/* (root fd, path, struct bunc_mount): a file system or a bind mount, onto a path below the root. */
	BUNC_OP_MOUNT,
	/* (root fd, path, MOUNT_ATTR_* to set, to clear): change a mount below the root. */
	BUNC_OP_MOUNT_ATTR,
	/* (dir fd, name, struct bunc_device): a device node, or a bind of the host's. */
	BUNC_OP_DEVICE,
	/* (root fd, path, fd of an empty tmpfs, magic): cover a path; what is not there is passed over.
	   Unless it is 0, the magic is that of the file system whose root the path begins with. */
	BUNC_OP_MASK,
	/* (root fd, path, magic): bind a path over itself, read-only; what is not there is passed over. */
	BUNC_OP_READONLY,
	/* (root fd): standard streams that are the host's null device become the container's. */
	BUNC_OP_NULL_STREAMS,
	/* (uid): the standard streams get this owner, where that is possible. */
	BUNC_OP_OWN_STREAMS,
	BUNC_OP_LAST,
};

#define BUNC_MOUNT_RECURSIVE 1u	  /* bind with what is mounted below the source */
#define BUNC_MOUNT_COPY_UP 2u	  /* copy what the mount covers into it */
#define BUNC_MOUNT_TAKE_MODE 4u	  /* the mount's root gets the mode of the directory it covers */
#define BUNC_MOUNT_NO_LINKS 8u	  /* the target must be a directory reached without a symbolic link */
#define BUNC_MOUNT_GUARD_PROC 16u /* the target must not lie in a proc file system */
#define BUNC_MOUNT_ONLY_PROC 32u  /* the source must be a proc file system */
#define BUNC_MOUNT_REMOUNT 64u	  /* change what is mounted at the target */

struct bunc_mount {
	uint64_t type;	      /* string; 0 for a bind mount */
	uint64_t params;      /* file system: parameters, see configure() in mount.c */
	uint64_t source;      /* bind: path on the host */
	uint64_t propagation; /* array of MS_* values ended by 0, or 0 */
	uint64_t set;	      /* MOUNT_ATTR_* */
	uint64_t clear;
	uint64_t rec_set; /* the same for the mount and all below it */
	uint64_t rec_clear;
	uint64_t implied; /* bind: those of clear that stay where they are locked */
	int64_t tree;	  /* bind: descriptor of a detached mount instead of a path; -1 for none */
	uint64_t flags;
};

struct bunc_device {
	uint64_t mode; /* type and permissions; 0: bind the host's node */
	uint64_t dev;
	uint64_t host; /* path of the host's node, bound when none can be made; 0: that is a failure */
	uint32_t uid, gid;
	uint32_t strict; /* a file that is there already must be this device */
	uint32_t spare;
};

#define BUNC_EHOOK 200 /* beyond every errno: the hook ended, and not with 0 */

struct bunc_hook {
	uint64_t path; /* pointers are relocated like all others */
	uint64_t argv;
	uint64_t envp;
	uint64_t input;
	uint64_t input_size;
	int64_t timeout_ms; /* -1: none */
	int32_t stdio[2];   /* descriptors for stdout and stderr; -1: what it says is kept for the error */
};

/* What init tells its parent. */
enum bunc_event_kind {
	BUNC_EVENT_STAGE = 1,  /* index: the operation; event: which stage; value */
	BUNC_EVENT_ERROR = 2,  /* index: the operation; value: errno; text: more of it */
	BUNC_EVENT_FORKED = 3, /* value: pid of the process that goes on */
};

#define BUNC_TEXT_MAX 1024

struct bunc_event {
	uint32_t kind;
	uint32_t index;
	uint32_t event; /* BUNC_EVENT_ERROR: the call of a composite that failed, and which item << 16 */
	uint32_t text_size;
	int64_t value;
	/* text_size bytes follow */
};

/* The interpreter's state: slots and what the last failure said. */
struct bunc_state {
	int64_t slots[BUNC_SLOTS];
	int32_t sync_fd;  /* init's socket to its parent; -1 in the parent itself */
	int32_t error_fd; /* where failures are told: sync_fd, after the start the exec fifo */
	int32_t error;	  /* errno of the failing operation */
	uint32_t index;	  /* its index in the program */
	uint32_t step;	  /* which call of a composite failed (system call number), and at which item << 16 */
	uint32_t text_size;
	uint64_t times;	 /* address of an array of struct bunc_time; 0: nothing is timed */
	uint32_t ntimes; /* its length */
	uint32_t spare;
	char text[BUNC_TEXT_MAX];
};

/* libbunc: arguments of BUNC_CALL_SPAWN. */
#define BUNC_MAX_FDS 64

struct bunc_spawn {
	uint64_t flags;	  /* clone3 flags; CLONE_VM | CLONE_VFORK | CLONE_PIDFD are added */
	int32_t cgroup;	  /* with CLONE_INTO_CGROUP */
	int32_t pidns;	  /* pid namespace to be born in, -1 for none */
	int32_t first_fd; /* number that fds[0] gets in init; the others follow */
	int32_t nfds;
	int32_t fds[BUNC_MAX_FDS]; /* fds[0] is init's end of the socket */
	int32_t preserve;	   /* descriptors 3 .. 3 + preserve - 1 stay open */
	int32_t pid;		   /* answers */
	int32_t pidfd;
	int32_t stdio[3]; /* what becomes 0, 1, 2; -1 leaves it */
};

/* libbunc's one entry point takes a system call number or one of these. */
enum bunc_call {
	BUNC_CALL_FIRST = 0x10000,
	BUNC_CALL_RUN = 0x10000, /* (part, size, struct bunc_state): run a part here; 0 or -errno */
	BUNC_CALL_SPAWN,	 /* (struct bunc_spawn): start bunc-init; 0 or -errno */
	BUNC_CALL_READ_FILE,	 /* (dirfd, path, buffer, size): bytes read, at most size; or -errno */
	BUNC_CALL_RECV,	   /* (socket, buffer, size, int fds[16], flags): recvmsg; fds[0] is their number */
	BUNC_CALL_SEND_FD, /* (socket, fd or -1, bytes, length): all bytes, with the descriptor */
	BUNC_CALL_SIGNALS, /* (fd): write the number of each signal that arrives to fd, one byte each */
	BUNC_CALL_FORK, /* (): fork(3) of this process, which must have one thread; 0 in the child, the pid,
			   or -1 */
	BUNC_CALL_RUN_APART,  /* (part, size, struct bunc_state, clone flags): run a part in a child that
			    shares  memory and descriptors, and wait for it; 0 or -errno */
	BUNC_CALL_INIT_IMAGE, /* (): a sealed memfd with bunc-init, CLOEXEC */
};

#endif
