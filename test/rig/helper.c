// The part of the test rig that needs system calls neither Bun nor busybox offers. Static, so that the same
// file runs on the host and, bound into it, in a container. Each subcommand prints lines of JSON on standard
// output.
//
//   host:      recvtty SOCKET            receive a console descriptor, describe it, relay it to stdin/stdout
//              recvfd SOCKET             receive descriptors, describe them; each line "SIG" of stdin goes to
//              the pidfd datagrams SOCKET          print every datagram that arrives (NOTIFY_SOCKET of
//              systemd) agent SOCKET ERRNO        receive a seccomp listener, answer every notification with
//              -ERRNO (0: continue)
//   container: report                    everything a process can ask the kernel about itself (report.c)
//              sys "NAME ARG..." ...     make raw system calls, print what each returned
//              send TEXT                 send TEXT to $NOTIFY_SOCKET
//              eat BYTES                 touch that much memory, then print "ate"
#define _GNU_SOURCE
#include "helper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#define MAX_FDS 8

void die(const char *what)
{
	fprintf(stderr, "test-helper: %s: %s\n", what, strerror(errno));
	exit(125);
}

void json_string(const char *s, size_t n)
{
	putchar('"');
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];
		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

void json_link(const char *path)
{
	char target[4096];
	ssize_t n = readlink(path, target, sizeof target);
	json_string(target, n < 0 ? 0 : (size_t)n);
}

void json_tty(int fd)
{
	struct termios t;
	struct winsize w;
	if (tcgetattr(fd, &t) < 0 || ioctl(fd, TIOCGWINSZ, &w) < 0) {
		printf("null");
		return;
	}
	printf("{\"iflag\":%u,\"oflag\":%u,\"cflag\":%u,\"lflag\":%u,\"rows\":%u,\"cols\":%u,\"onlcr\":%s}",
	       t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag, w.ws_row, w.ws_col,
	       t.c_oflag & ONLCR ? "true" : "false");
}

static int bind_unix(const char *path, int type)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof a.sun_path) {
		errno = ENAMETOOLONG;
		die(path);
	}
	strcpy(a.sun_path, path);
	signal(SIGPIPE, SIG_DFL);
	int s = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) < 0)
		die(path);
	if (type == SOCK_STREAM && listen(s, 8) < 0)
		die("listen");
	printf("{\"ready\":true}\n");
	return s;
}

static int accept_one(const char *path)
{
	int s = bind_unix(path, SOCK_STREAM);
	int c = accept4(s, NULL, NULL, SOCK_CLOEXEC);
	if (c < 0)
		die("accept");
	close(s);
	return c;
}

// Receives one message; *nfds is how many descriptors came with it. 0 at the end of the stream.
static ssize_t receive(int s, char *text, size_t size, int *fds, int *nfds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * MAX_FDS)];
	} control;
	struct iovec iov = {text, size};
	struct msghdr m = {
	    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(s, &m, MSG_CMSG_CLOEXEC);
	*nfds = 0;
	if (n < 0)
		die("recvmsg");
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		*nfds = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), (size_t)*nfds * sizeof(int));
	}
	return n;
}

static void describe_fd(int fd)
{
	char path[64], line[256];
	printf("{\"target\":");
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	json_link(path);
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, "Pid:", 4) == 0)
			printf(",\"pid\":%d", atoi(line + 4));
	if (f)
		fclose(f);
	printf(",\"tty\":");
	json_tty(fd);
	putchar('}');
}

static void print_message(const char *text, ssize_t n, int *fds, int nfds)
{
	printf("{\"text\":");
	json_string(text, (size_t)n);
	printf(",\"fds\":[");
	for (int i = 0; i < nfds; i++) {
		if (i)
			putchar(',');
		describe_fd(fds[i]);
	}
	printf("]}\n");
}

static void write_all(int fd, const char *p, ssize_t n)
{
	while (n > 0) {
		ssize_t w = write(fd, p, (size_t)n);
		if (w < 0)
			die("write");
		p += w;
		n -= w;
	}
}

static int recvtty(const char *path)
{
	char text[4096];
	int fds[MAX_FDS], nfds;
	int c = accept_one(path);
	ssize_t n = receive(c, text, sizeof text, fds, &nfds);
	print_message(text, n, fds, nfds);
	if (nfds != 1)
		return 1;
	struct pollfd p[2] = {{STDIN_FILENO, POLLIN, 0}, {fds[0], POLLIN, 0}};
	for (;;) {
		if (poll(p, 2, -1) < 0)
			die("poll");
		if (p[1].revents) { // EIO once the last process with the other end is gone
			n = read(fds[0], text, sizeof text);
			if (n <= 0)
				return 0;
			write_all(STDOUT_FILENO, text, n);
		}
		if (p[0].revents) {
			n = read(STDIN_FILENO, text, sizeof text);
			if (n <= 0)
				p[0].fd = -1;
			else
				write_all(fds[0], text, n);
		}
	}
}

static int recvfd(const char *path)
{
	char text[65536], line[64];
	int fds[MAX_FDS], nfds;
	int c = accept_one(path);
	ssize_t n = receive(c, text, sizeof text, fds, &nfds);
	print_message(text, n, fds, nfds);
	while (nfds > 0 && fgets(line, sizeof line, stdin)) {
		long r = syscall(SYS_pidfd_send_signal, fds[0], atoi(line), NULL, 0);
		printf("{\"sent\":%d,\"errno\":%d}\n", atoi(line), r < 0 ? errno : 0);
	}
	return 0;
}

__attribute__((noreturn)) static void datagrams(const char *path)
{
	char text[65536];
	int fds[MAX_FDS], nfds;
	int s = bind_unix(path, SOCK_DGRAM);
	for (;;) {
		ssize_t n = receive(s, text, sizeof text, fds, &nfds);
		print_message(text, n, fds, nfds);
		for (int i = 0; i < nfds; i++)
			close(fds[i]);
	}
}

static int agent(const char *path, int error)
{
	static char text[65536];
	int fds[MAX_FDS], nfds;
	int c = accept_one(path);
	ssize_t n = receive(c, text, sizeof text, fds, &nfds);
	for (;;) { // the state may come in several pieces, the descriptor only with the first
		int more[MAX_FDS], nmore;
		ssize_t k = receive(c, text + n, sizeof text - (size_t)n, more, &nmore);
		if (k == 0)
			break;
		n += k;
	}
	print_message(text, n, fds, nfds);
	if (nfds != 1)
		return 1;
	for (;;) {
		struct seccomp_notif req;
		struct seccomp_notif_resp resp;
		struct pollfd p = {fds[0], POLLIN, 0};
		if (poll(&p, 1, -1) < 0)
			die("poll");
		if (p.revents & POLLHUP)
			return 0;
		memset(&req, 0, sizeof req);
		if (ioctl(fds[0], SECCOMP_IOCTL_NOTIF_RECV, &req) < 0) {
			if (errno == ENOENT || errno == EINTR)
				continue;
			die("SECCOMP_IOCTL_NOTIF_RECV");
		}
		printf("{\"nr\":%d,\"pid\":%u}\n", req.data.nr, req.pid);
		memset(&resp, 0, sizeof resp);
		resp.id = req.id;
		resp.error = -error;
		resp.flags = error ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		if (ioctl(fds[0], SECCOMP_IOCTL_NOTIF_SEND, &resp) < 0 && errno != ENOENT)
			die("SECCOMP_IOCTL_NOTIF_SEND");
	}
}

static int send_text(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (!path || strlen(path) >= sizeof a.sun_path)
		return 1;
	strcpy(a.sun_path, path);
	if (sendto(s, text, strlen(text), 0, (struct sockaddr *)&a, sizeof a) < 0)
		die(path);
	return 0;
}

static int eat(size_t bytes)
{
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		die("mmap");
	for (size_t i = 0; i < bytes; i += 4096)
		p[i] = 1;
	puts("ate");
	return 0;
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (strcmp(command, "report") == 0)
		return report(argc - 2, argv + 2);
	if (strcmp(command, "sys") == 0)
		return system_calls(argc - 2, argv + 2);
	if (argc == 3 && strcmp(command, "recvtty") == 0)
		return recvtty(argv[2]);
	if (argc == 3 && strcmp(command, "recvfd") == 0)
		return recvfd(argv[2]);
	if (argc == 3 && strcmp(command, "datagrams") == 0)
		datagrams(argv[2]);
	if (argc == 4 && strcmp(command, "agent") == 0)
		return agent(argv[2], atoi(argv[3]));
	if (argc == 3 && strcmp(command, "send") == 0)
		return send_text(argv[2]);
	if (argc == 3 && strcmp(command, "eat") == 0)
		return eat((size_t)atoll(argv[2]));
	fprintf(stderr, "test-helper: see the head of test/rig/helper.c\n");
	return 125;
}
