// Runs in a container whose namespaces others join: looks at every process that appears, and tells what it
// could get of one that is still the runtime's. `hostile-peek FILE`: FILE is a path of the host that it is
// not to reach.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

// The runtime's part of a process is over when it executes the container's program.
static int is_runtime(int pid)
{
	char path[64], exe[256] = "";
	snprintf(path, sizeof path, "/proc/%d/exe", pid);
	return readlink(path, exe, sizeof exe - 1) > 0 && strstr(exe, "bunc");
}

static void look(int pid, const char *file)
{
	char path[4200], text[256] = "";
	snprintf(path, sizeof path, "/proc/%d/root%s", pid, file);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (read(fd, text, sizeof text - 1) > 0)
			printf("read %d: %s", pid, text);
		close(fd);
	}
	snprintf(path, sizeof path, "/proc/%d/environ", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (is_runtime(pid))
			printf("environment %d\n", pid);
		close(fd);
	}
	if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0) {
		if (is_runtime(pid))
			printf("seized %d\n", pid);
		ptrace(PTRACE_INTERRUPT, pid, 0, 0);
		waitpid(pid, 0, __WALL);
		ptrace(PTRACE_DETACH, pid, 0, 0);
	}
}

int main(int argc, char **argv)
{
	// In a pid namespace that few use, the next process has one of the next numbers.
	int next = getpid() + 1, seen = 0;
	if (argc != 2)
		return 2;
	setvbuf(stdout, 0, _IOLBF, 0);
	printf("looking\n");
	for (;;) {
		for (int pid = next; pid < next + 8; pid++) {
			if (kill(pid, 0) < 0 && errno == ESRCH)
				continue;
			if (pid != seen)
				printf("saw %d\n", pid);
			seen = pid;
			if (pid > next + 3)
				next = pid - 3;
			look(pid, argv[1]);
		}
		while (waitpid(-1, 0, WNOHANG) > 0)
			;
	}
}
