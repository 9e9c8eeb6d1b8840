/*
 * The numbers that TypeScript needs from the kernel's and bunc's own headers, for the architecture built for:
 * a table of (name, value) in a section that scripts/abi.ts reads from the object file, so that cross builds
 * work.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <termios.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <asm/unistd.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/if.h>
#include <linux/keyctl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <linux/mempolicy.h>
#include <linux/mount.h>
#include <linux/nsfs.h>
#include <linux/openat2.h>
#include <linux/personality.h>
#include <linux/prctl.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/wait.h>
#include <linux/ioprio.h>
#include "bunc.h"

/* <sys/mount.h> has these, and cannot be included beside <linux/mount.h>; the kernel does not export them. */
#define MNT_FORCE 1
#define MNT_DETACH 2
#define UMOUNT_NOFOLLOW 8

struct entry {
	char name[48];
	long long value;
};

#define N(name) {#name, name},
#define SYS(name) {"SYS_" #name, __NR_##name},
#define OFF(type, field) {#type "." #field, offsetof(struct type, field)},
#define SIZE(type) {"sizeof." #type, sizeof(struct type)},
#define ATTR(field) {"bpf_attr." #field, offsetof(union bpf_attr, field)},
#define QUERY(field) {"bpf_query." #field, offsetof(union bpf_attr, query.field)},

__attribute__((used, section("bunc_abi"))) const struct entry table[] = {
    /* clang-format off */
	SYS(openat) SYS(openat2) SYS(close) SYS(read) SYS(write) SYS(pread64) SYS(lseek) SYS(ioctl)
	SYS(fcntl) SYS(dup3) SYS(close_range) SYS(pipe2) SYS(ppoll) SYS(sendto) SYS(recvfrom)
	SYS(bind) SYS(setsockopt) SYS(mount) SYS(umount2) SYS(madvise) SYS(pivot_root) SYS(open_tree) SYS(move_mount) SYS(fsopen)
	SYS(fsconfig) SYS(fsmount) SYS(fspick) SYS(mount_setattr) SYS(chroot) SYS(chdir) SYS(fchdir) SYS(getcwd)
	SYS(mkdirat) SYS(mknodat) SYS(symlinkat) SYS(unlinkat) SYS(renameat) SYS(linkat) SYS(fchmod)
	SYS(fchmodat) SYS(fchown) SYS(fchownat) SYS(newfstatat) SYS(statx) SYS(fstatfs) SYS(statfs)
	SYS(readlinkat) SYS(getdents64) SYS(ftruncate) SYS(fallocate) SYS(flock) SYS(faccessat2) SYS(utimensat)
	SYS(unshare) SYS(setns) SYS(clone3) SYS(exit_group) SYS(wait4) SYS(waitid) SYS(kill)
	SYS(pidfd_open) SYS(pidfd_send_signal) SYS(pidfd_getfd) SYS(getpid) SYS(getppid) SYS(getpgid) SYS(gettid)
	SYS(setresuid) SYS(setresgid) SYS(setgroups) SYS(umask) SYS(prctl) SYS(capget) SYS(capset)
	SYS(setsid) SYS(setpgid) SYS(setrlimit) SYS(prlimit64) SYS(getrlimit) SYS(sched_setattr)
	SYS(sched_setaffinity) SYS(sched_getaffinity) SYS(ioprio_set) SYS(personality)
	SYS(set_mempolicy) SYS(sethostname) SYS(setdomainname) SYS(keyctl) SYS(seccomp) SYS(bpf)
	SYS(execve) SYS(execveat) SYS(socket) SYS(socketpair) SYS(connect) SYS(accept4) SYS(listen)
	SYS(sendmsg) SYS(memfd_create) SYS(getuid) SYS(geteuid) SYS(getgid) SYS(getegid) SYS(uname)
	SYS(eventfd2) SYS(inotify_init1) SYS(inotify_add_watch)
	SYS(sysinfo) SYS(clock_gettime) SYS(nanosleep) SYS(rt_sigaction) SYS(rt_sigprocmask)
	SYS(getrandom) SYS(getxattr) SYS(epoll_create1) SYS(epoll_ctl) SYS(epoll_pwait) SYS(signalfd4) SYS(getsockopt)
	N(EPOLL_CLOEXEC) N(EPOLL_CTL_ADD) N(EPOLL_CTL_MOD) N(EPOLL_CTL_DEL)
	N(EPERM) N(ENOENT) N(ESRCH) N(EINTR) N(EIO) N(ENXIO) N(E2BIG) N(ENOEXEC) N(EBADF) N(ECHILD)
	N(EAGAIN) N(ENOMEM) N(EACCES) N(EFAULT) N(ENOTBLK) N(EBUSY) N(EEXIST) N(EXDEV) N(ENODEV)
	N(ENOTDIR) N(EISDIR) N(EINVAL) N(ENFILE) N(EMFILE) N(ENOTTY) N(ETXTBSY) N(EFBIG) N(ENOSPC)
	N(ESPIPE) N(EROFS) N(EMLINK) N(EPIPE) N(EDOM) N(ERANGE) N(EDEADLK) N(ENAMETOOLONG) N(ENOLCK)
	N(ENOSYS) N(ENOTEMPTY) N(ELOOP) N(EBADMSG) N(EOVERFLOW) N(EUSERS) N(ENOTSOCK) N(EPROTO)
	N(EPROTONOSUPPORT) N(EOPNOTSUPP) N(EAFNOSUPPORT) N(EADDRINUSE) N(EADDRNOTAVAIL) N(ENETDOWN)
	N(ENETUNREACH) N(ECONNABORTED) N(ECONNRESET) N(EMSGSIZE) N(ENOBUFS) N(EISCONN) N(ENOTCONN) N(ETIMEDOUT)
	N(ECONNREFUSED) N(EHOSTDOWN) N(EALREADY) N(EINPROGRESS) N(ESTALE) N(EDQUOT) N(ECANCELED)
	N(ENOKEY) N(EKEYREJECTED) N(ENODATA) N(ENOTUNIQ) N(ENOPKG) N(EREMOTEIO) N(O_RDONLY)
	N(O_WRONLY) N(O_RDWR) N(O_CREAT) N(O_EXCL) N(O_NOCTTY) N(O_TRUNC) N(O_APPEND) N(O_NONBLOCK)
	N(O_SYNC) N(O_DIRECTORY) N(O_NOFOLLOW) N(O_CLOEXEC) N(O_PATH) N(O_TMPFILE) N(AT_FDCWD)
	N(AT_EMPTY_PATH) N(AT_SYMLINK_NOFOLLOW) N(AT_RECURSIVE) N(AT_REMOVEDIR) N(AT_EACCESS)
	N(F_DUPFD_CLOEXEC) N(F_SETFD) N(F_GETFD) N(FD_CLOEXEC) N(F_GETFL) N(F_SETFL) N(F_ADD_SEALS)
	N(F_SEAL_SEAL) N(F_SEAL_SHRINK) N(F_SEAL_GROW) N(F_SEAL_WRITE) N(LOCK_SH) N(LOCK_EX)
	N(LOCK_NB) N(LOCK_UN) N(S_IFMT) N(S_IFCHR) N(S_IFBLK) N(S_IFIFO) N(S_IFDIR) N(S_IFREG)
	N(S_IFSOCK) N(S_IFLNK) N(DT_DIR) N(DT_LNK) N(DT_UNKNOWN) N(CLONE_NEWNS) N(CLONE_NEWCGROUP) N(CLONE_NEWUTS) N(CLONE_NEWIPC)
	N(CLONE_NEWUSER) N(CLONE_NEWPID) N(CLONE_NEWNET) N(CLONE_NEWTIME) N(CLONE_INTO_CGROUP)
	N(CLONE_CLEAR_SIGHAND) N(MS_RDONLY) N(MS_NOSUID) N(MS_NODEV) N(MS_NOEXEC) N(MS_SYNCHRONOUS)
	N(MS_REMOUNT) N(MS_MANDLOCK) N(MS_DIRSYNC) N(MS_NOSYMFOLLOW) N(MS_NOATIME) N(MS_NODIRATIME)
	N(MS_BIND) N(MS_MOVE) N(MS_REC) N(MS_SILENT) N(MS_UNBINDABLE) N(MS_PRIVATE) N(MS_SLAVE)
	N(MS_SHARED) N(MS_RELATIME) N(MS_STRICTATIME) N(MS_LAZYTIME) N(MS_POSIXACL) N(MS_I_VERSION)
	N(MNT_DETACH) N(MNT_FORCE) N(UMOUNT_NOFOLLOW) N(OPEN_TREE_CLONE) N(OPEN_TREE_CLOEXEC)
	N(MOVE_MOUNT_F_EMPTY_PATH) N(MOVE_MOUNT_T_EMPTY_PATH) N(FSOPEN_CLOEXEC) N(FSMOUNT_CLOEXEC)
	N(FSCONFIG_SET_FLAG) N(FSCONFIG_SET_STRING) N(FSCONFIG_SET_FD) N(FSCONFIG_CMD_CREATE)
	N(FSCONFIG_CMD_RECONFIGURE) N(MOUNT_ATTR_RDONLY) N(MOUNT_ATTR_NOSUID) N(MOUNT_ATTR_NODEV)
	N(MOUNT_ATTR_NOEXEC) N(MOUNT_ATTR__ATIME) N(MOUNT_ATTR_RELATIME) N(MOUNT_ATTR_NOATIME)
	N(MOUNT_ATTR_STRICTATIME) N(MOUNT_ATTR_NODIRATIME) N(MOUNT_ATTR_IDMAP)
	N(MOUNT_ATTR_NOSYMFOLLOW) N(RESOLVE_IN_ROOT) N(RESOLVE_NO_MAGICLINKS) N(RESOLVE_NO_SYMLINKS)
	N(RESOLVE_BENEATH) N(RESOLVE_NO_XDEV) N(NS_GET_NSTYPE) N(NS_GET_USERNS) N(NS_GET_PARENT)
	N(PROC_SUPER_MAGIC) N(SYSFS_MAGIC) N(TMPFS_MAGIC) N(CGROUP_SUPER_MAGIC) N(CGROUP2_SUPER_MAGIC)
	N(DEVPTS_SUPER_MAGIC) N(PR_SET_NAME) N(PR_SET_DUMPABLE) N(PR_SET_NO_NEW_PRIVS)
	N(PR_SET_KEEPCAPS) N(PR_CAPBSET_DROP) N(PR_CAP_AMBIENT) N(PR_CAP_AMBIENT_RAISE)
	N(PR_CAP_AMBIENT_CLEAR_ALL) N(PR_SET_CHILD_SUBREAPER) N(PR_SET_PDEATHSIG) N(PR_SET_SECUREBITS)
	N(EFD_CLOEXEC) N(EFD_NONBLOCK) N(IN_CLOEXEC) N(IN_NONBLOCK) N(IN_MODIFY)
	N(KEYCTL_JOIN_SESSION_KEYRING) N(KEYCTL_SETPERM) N(KEYCTL_DESCRIBE)
	N(KEY_SPEC_SESSION_KEYRING) N(SECCOMP_SET_MODE_FILTER) N(SECCOMP_FILTER_FLAG_TSYNC)
	N(SECCOMP_FILTER_FLAG_LOG) N(SECCOMP_FILTER_FLAG_SPEC_ALLOW)
	N(SECCOMP_FILTER_FLAG_NEW_LISTENER) N(SECCOMP_FILTER_FLAG_TSYNC_ESRCH)
	N(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) N(SECCOMP_GET_ACTION_AVAIL) N(TIOCGPTPEER)
	N(TIOCSPTLCK) N(TIOCSCTTY) N(TIOCSWINSZ) N(TIOCGWINSZ) N(TIOCGPTN) N(TCGETS) N(TCSETS)
	N(TCSETSW) N(ONLCR) N(OPOST) N(ICRNL) N(IXON) N(ISIG) N(ICANON) N(ECHO) N(ECHONL) N(IEXTEN)
	N(BRKINT) N(IGNBRK) N(PARMRK) N(ISTRIP) N(INLCR) N(IGNCR) N(INPCK) N(CSIZE) N(PARENB) N(CS8)
	N(VMIN) N(VTIME) N(POLLIN) N(POLLOUT) N(POLLHUP) N(POLLERR) N(POLLNVAL) N(POLLRDHUP)
	N(P_ALL) N(P_PIDFD) N(P_PID) N(WEXITED) N(WNOHANG) N(WNOWAIT) N(CLD_EXITED) N(CLD_KILLED) N(CLD_DUMPED)
	N(AF_UNIX) N(AF_INET) N(AF_NETLINK) N(SOCK_STREAM) N(SOCK_DGRAM) N(SOCK_SEQPACKET) N(SOCK_RAW)
	N(SOL_SOCKET) N(SO_PEERCRED) N(SO_ACCEPTCONN) N(SOCK_CLOEXEC) N(SOCK_NONBLOCK) N(MSG_NOSIGNAL) N(MSG_PEEK) N(MSG_DONTWAIT) N(MSG_TRUNC)
	N(SIOCSIFFLAGS) N(SIOCGIFFLAGS) N(SIOCGIFINDEX) N(IFF_UP) N(IFF_RUNNING) N(IFNAMSIZ)
	N(NETLINK_ROUTE) N(NETLINK_EXT_ACK) N(NETLINK_CAP_ACK) N(SOL_NETLINK) N(RTM_NEWLINK) N(RTM_SETLINK)
	N(RTM_GETLINK) N(RTM_NEWADDR) N(RTM_GETADDR) N(RTM_DELADDR) N(RTM_DELLINK) N(RTMGRP_LINK) N(RT_SCOPE_UNIVERSE) N(NLM_F_REQUEST) N(NLM_F_ACK)
	N(NLM_F_DUMP) N(NLM_F_DUMP_INTR) N(NLM_F_CAPPED) N(NLM_F_ACK_TLVS) N(NLMSGERR_ATTR_MSG) N(NLM_F_CREATE) N(NLM_F_EXCL) N(IFLA_IFNAME) N(IFLA_NET_NS_FD)
	N(IFLA_NET_NS_PID) N(IFLA_NEW_IFINDEX) N(IFA_LOCAL) N(IFA_ADDRESS) N(IFA_LABEL)
	N(IFA_BROADCAST) N(IFA_CACHEINFO) N(IFA_FLAGS) N(IFA_F_PERMANENT) N(IFA_F_NODAD) N(IFA_F_HOMEADDRESS) N(IFA_F_MANAGETEMPADDR)
	N(IFA_F_NOPREFIXROUTE) N(IFA_F_MCAUTOJOIN) N(IFA_RT_PRIORITY) N(NLMSG_ERROR) N(NLMSG_DONE)
	N(IOPRIO_WHO_PROCESS) N(MPOL_DEFAULT) N(MPOL_PREFERRED) N(MPOL_BIND) N(MPOL_INTERLEAVE)
	N(MPOL_LOCAL) N(MPOL_PREFERRED_MANY) N(MPOL_F_NUMA_BALANCING) N(MPOL_F_RELATIVE_NODES)
	N(MPOL_F_STATIC_NODES) N(SCHED_OTHER) N(SCHED_FIFO) N(SCHED_RR) N(SCHED_BATCH) N(SCHED_IDLE)
	N(SCHED_DEADLINE) N(SCHED_FLAG_RESET_ON_FORK) N(SCHED_FLAG_RECLAIM) N(SCHED_FLAG_DL_OVERRUN)
	N(SCHED_FLAG_KEEP_POLICY) N(SCHED_FLAG_KEEP_PARAMS) N(SCHED_FLAG_UTIL_CLAMP_MIN)
	N(SCHED_FLAG_UTIL_CLAMP_MAX) N(PER_LINUX) N(PER_LINUX32) N(RLIMIT_AS) N(RLIMIT_CORE)
	N(RLIMIT_CPU) N(RLIMIT_DATA) N(RLIMIT_FSIZE) N(RLIMIT_LOCKS) N(RLIMIT_MEMLOCK)
	N(RLIMIT_MSGQUEUE) N(RLIMIT_NICE) N(RLIMIT_NOFILE) N(RLIMIT_NPROC) N(RLIMIT_RSS)
	N(RLIMIT_RTPRIO) N(RLIMIT_RTTIME) N(RLIMIT_SIGPENDING) N(RLIMIT_STACK) N(MFD_CLOEXEC) N(MFD_ALLOW_SEALING) N(BUNC_MAGIC)
	N(BUNC_MAX_PART) N(BUNC_SLOTS) N(BUNC_NO_SLOT) N(BUNC_PART_TRACE) N(BUNC_TIMES) N(CLOCK_MONOTONIC) N(BUNC_ARG_IMM)
	N(BUNC_ARG_DATA) N(BUNC_ARG_SLOT) N(BUNC_ERR_NONE) N(BUNC_ERR_ANY) N(BUNC_OP_FIRST)
	N(BUNC_OP_PART) N(BUNC_OP_REPORT) N(BUNC_OP_MKPATH) N(BUNC_OP_SENDFD) N(BUNC_OP_HOOK)
	N(BUNC_OP_LOOKPATH) N(BUNC_OP_HOME) N(BUNC_OP_COPYUP) N(BUNC_OP_EXPECT) N(BUNC_OP_PATCH)
	N(BUNC_OP_LOAD) N(BUNC_OP_DROP_BOUNDING) N(BUNC_OP_CHECK_CWD) N(BUNC_OP_FORK)
	N(BUNC_OP_NETLINK) N(BUNC_OP_WRITE) N(BUNC_OP_WRITE_AT) N(BUNC_OP_ERRORS_TO)
	N(BUNC_OP_RESET_SIGNALS) N(BUNC_OP_MOUNT) N(BUNC_OP_MOUNT_ATTR) N(BUNC_OP_DEVICE) N(BUNC_OP_MASK) N(BUNC_OP_READONLY)
	N(BUNC_OP_NULL_STREAMS) N(BUNC_OP_OWN_STREAMS) N(BUNC_OP_LAST) N(BUNC_MOUNT_RECURSIVE) N(BUNC_MOUNT_COPY_UP)
	N(BUNC_MOUNT_TAKE_MODE) N(BUNC_MOUNT_NO_LINKS) N(BUNC_MOUNT_GUARD_PROC) N(BUNC_MOUNT_ONLY_PROC) N(BUNC_MOUNT_REMOUNT) N(BUNC_EHOOK)
	N(BUNC_EVENT_STAGE) N(BUNC_EVENT_ERROR) N(BUNC_EVENT_FORKED) N(BUNC_TEXT_MAX) N(BUNC_MAX_FDS)
	N(BUNC_CALL_FIRST) N(BUNC_CALL_RUN) N(BUNC_CALL_SPAWN) N(BUNC_CALL_READ_FILE) N(BUNC_CALL_RECV)
	N(BUNC_CALL_SEND_FD) N(BUNC_CALL_SIGNALS) N(BUNC_CALL_FORK) N(BUNC_CALL_INIT_IMAGE) N(BUNC_CALL_RUN_APART) N(SIGHUP) N(SIGINT) N(SIGQUIT) N(SIGILL) N(SIGTRAP)
	N(SIGABRT) N(SIGBUS) N(SIGFPE) N(SIGKILL) N(SIGUSR1) N(SIGSEGV) N(SIGUSR2) N(SIGPIPE)
	N(SIGALRM) N(SIGTERM) N(SIGSTKFLT) N(SIGCHLD) N(SIGCONT) N(SIGSTOP) N(SIGTSTP) N(SIGTTIN)
	N(SIGTTOU) N(SIGURG) N(SIGXCPU) N(SIGXFSZ) N(SIGVTALRM) N(SIGPROF) N(SIGWINCH) N(SIGIO)
	N(SIGPWR) N(SIGSYS) N(SIG_BLOCK) N(SIG_SETMASK) N(SFD_CLOEXEC) N(SFD_NONBLOCK)
	N(CAP_CHOWN) N(CAP_DAC_OVERRIDE) N(CAP_DAC_READ_SEARCH) N(CAP_FOWNER) N(CAP_FSETID)
	N(CAP_KILL) N(CAP_SETGID) N(CAP_SETUID) N(CAP_SETPCAP) N(CAP_LINUX_IMMUTABLE)
	N(CAP_NET_BIND_SERVICE) N(CAP_NET_BROADCAST) N(CAP_NET_ADMIN) N(CAP_NET_RAW) N(CAP_IPC_LOCK)
	N(CAP_IPC_OWNER) N(CAP_SYS_MODULE) N(CAP_SYS_RAWIO) N(CAP_SYS_CHROOT) N(CAP_SYS_PTRACE)
	N(CAP_SYS_PACCT) N(CAP_SYS_ADMIN) N(CAP_SYS_BOOT) N(CAP_SYS_NICE) N(CAP_SYS_RESOURCE)
	N(CAP_SYS_TIME) N(CAP_SYS_TTY_CONFIG) N(CAP_MKNOD) N(CAP_LEASE) N(CAP_AUDIT_WRITE)
	N(CAP_AUDIT_CONTROL) N(CAP_SETFCAP) N(CAP_MAC_OVERRIDE) N(CAP_MAC_ADMIN) N(CAP_SYSLOG)
	N(CAP_WAKE_ALARM) N(CAP_BLOCK_SUSPEND) N(CAP_AUDIT_READ) N(CAP_PERFMON) N(CAP_BPF)
	N(CAP_CHECKPOINT_RESTORE)
	N(BPF_PROG_LOAD) N(BPF_PROG_ATTACH) N(BPF_PROG_DETACH) N(BPF_PROG_QUERY)
	N(BPF_PROG_GET_FD_BY_ID) N(BPF_PROG_TYPE_CGROUP_DEVICE) N(BPF_CGROUP_DEVICE)
	N(BPF_F_ALLOW_MULTI) N(BPF_DEVCG_ACC_MKNOD) N(BPF_DEVCG_ACC_READ) N(BPF_DEVCG_ACC_WRITE)
	N(BPF_DEVCG_DEV_BLOCK) N(BPF_DEVCG_DEV_CHAR)
	ATTR(prog_type) ATTR(insn_cnt) ATTR(insns) ATTR(license) ATTR(prog_flags) ATTR(target_fd)
	ATTR(attach_bpf_fd) ATTR(attach_type) ATTR(attach_flags) ATTR(prog_id)
	{"sizeof.bpf_attr", sizeof(union bpf_attr)},
	QUERY(target_fd) QUERY(attach_type) QUERY(prog_ids) QUERY(prog_cnt)
	SIZE(bunc_part)
	OFF(bunc_part, magic)
	OFF(bunc_part, size)
	OFF(bunc_part, nops)
	OFF(bunc_part, nrelocs)
	OFF(bunc_part, data_size)
	OFF(bunc_part, first)
	OFF(bunc_part, flags)
	OFF(bunc_part, fail_at)
	OFF(bunc_part, fail_errno)
	OFF(bunc_part, trace_fd)
	OFF(bunc_part, trace_end)
	SIZE(bunc_time)
	OFF(bunc_time, start)
	OFF(bunc_time, end)
	OFF(bunc_time, result)
	SIZE(bunc_op)
	OFF(bunc_op, code)
	OFF(bunc_op, tags)
	OFF(bunc_op, slot)
	OFF(bunc_op, ok_skip)
	OFF(bunc_op, err1)
	OFF(bunc_op, skip1)
	OFF(bunc_op, err2)
	OFF(bunc_op, skip2)
	OFF(bunc_op, log_slot)
	OFF(bunc_op, args)
	SIZE(bunc_hook)
	OFF(bunc_hook, path)
	OFF(bunc_hook, argv)
	OFF(bunc_hook, envp)
	OFF(bunc_hook, input)
	OFF(bunc_hook, input_size)
	OFF(bunc_hook, timeout_ms)
	OFF(bunc_hook, stdio)
	SIZE(bunc_mount)
	OFF(bunc_mount, type)
	OFF(bunc_mount, params)
	OFF(bunc_mount, source)
	OFF(bunc_mount, propagation)
	OFF(bunc_mount, set)
	OFF(bunc_mount, clear)
	OFF(bunc_mount, rec_set)
	OFF(bunc_mount, rec_clear)
	OFF(bunc_mount, implied)
	OFF(bunc_mount, tree)
	OFF(bunc_mount, flags)
	SIZE(bunc_device)
	OFF(bunc_device, mode)
	OFF(bunc_device, dev)
	OFF(bunc_device, host)
	OFF(bunc_device, uid)
	OFF(bunc_device, gid)
	OFF(bunc_device, strict)
	SIZE(bunc_event)
	OFF(bunc_event, kind)
	OFF(bunc_event, index)
	OFF(bunc_event, event)
	OFF(bunc_event, text_size)
	OFF(bunc_event, value)
	SIZE(bunc_state)
	OFF(bunc_state, slots)
	OFF(bunc_state, sync_fd)
	OFF(bunc_state, error)
	OFF(bunc_state, index)
	OFF(bunc_state, step)
	OFF(bunc_state, text_size)
	OFF(bunc_state, times)
	OFF(bunc_state, ntimes)
	OFF(bunc_state, text)
	SIZE(bunc_spawn)
	OFF(bunc_spawn, flags)
	OFF(bunc_spawn, cgroup)
	OFF(bunc_spawn, pidns)
	OFF(bunc_spawn, first_fd)
	OFF(bunc_spawn, nfds)
	OFF(bunc_spawn, fds)
	OFF(bunc_spawn, preserve)
	OFF(bunc_spawn, pid)
	OFF(bunc_spawn, pidfd)
	OFF(bunc_spawn, stdio)
	OFF(stat, st_mode)
	OFF(stat, st_rdev)
	OFF(stat, st_ino)
	OFF(stat, st_dev)
	OFF(stat, st_size)
	OFF(stat, st_uid)
	OFF(stat, st_gid)
	OFF(epoll_event, data)
	SIZE(epoll_event)
	SIZE(stat)
	SIZE(termios)
	{"sizeof.siginfo", sizeof(siginfo_t)},
	{"siginfo.si_status", offsetof(siginfo_t, si_status)},
	{"siginfo.si_code", offsetof(siginfo_t, si_code)},
	{"siginfo.si_pid", offsetof(siginfo_t, si_pid)},
	{"statfs.f_type", 0},
	SIZE(sockaddr_nl)
	OFF(sockaddr_nl, nl_groups)
	SIZE(nlmsghdr)
	OFF(nlmsghdr, nlmsg_type)
	OFF(nlmsghdr, nlmsg_flags)
	OFF(nlmsghdr, nlmsg_seq)
	SIZE(nlmsgerr)
	SIZE(ifinfomsg)
	OFF(ifinfomsg, ifi_index)
	OFF(ifinfomsg, ifi_flags)
	OFF(ifinfomsg, ifi_change)
	SIZE(ifaddrmsg)
	OFF(ifaddrmsg, ifa_prefixlen)
	OFF(ifaddrmsg, ifa_flags)
	OFF(ifaddrmsg, ifa_scope)
	OFF(ifaddrmsg, ifa_index)
	SIZE(ifreq)
    /* clang-format on */
};
