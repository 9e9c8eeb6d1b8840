// What runs inside a container for the test rig: `report` asks the kernel about the calling process and
// prints one JSON object; `sys` makes raw system calls and prints the result of each. Values beyond 2^53 are
// strings.
#define _GNU_SOURCE
#include "helper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

struct sched_attributes { // struct sched_attr of linux/sched/types.h, which clashes with glibc's headers
	unsigned size, policy;
	unsigned long long flags;
	int nice;
	unsigned priority;
	unsigned long long runtime, deadline, period;
	unsigned util_min, util_max;
};

static void strings(const char *key, char **list)
{
	printf("\"%s\":[", key);
	for (int i = 0; list[i]; i++) {
		if (i)
			putchar(',');
		json_string(list[i], strlen(list[i]));
	}
	printf("],");
}

static void ids(void)
{
	uid_t r, e, s;
	gid_t groups[1024];
	getresuid(&r, &e, &s);
	printf("\"uid\":[%u,%u,%u],", r, e, s);
	getresgid(&r, &e, &s);
	printf("\"gid\":[%u,%u,%u],\"groups\":[", r, e, s);
	int n = getgroups(1024, groups);
	for (int i = 0; i < n; i++)
		printf("%s%u", i ? "," : "", groups[i]);
	mode_t mask = umask(0);
	umask(mask);
	printf("],\"umask\":%u,", mask);
}

// Every field of /proc/self/status, as strings.
static void status(void)
{
	char line[4096];
	FILE *f = fopen("/proc/self/status", "re");
	int first = 1;
	printf("\"status\":{");
	while (f && fgets(line, sizeof line, f)) {
		char *colon = strchr(line, ':');
		if (!colon)
			continue;
		char *value = colon + 1 + strspn(colon + 1, " \t");
		size_t n = strcspn(value, "\n");
		while (n && value[n - 1] == ' ')
			n--;
		if (!first)
			putchar(',');
		first = 0;
		json_string(line, (size_t)(colon - line));
		putchar(':');
		json_string(value, n);
	}
	if (f)
		fclose(f);
	printf("},");
}

static void limits(void)
{
	static const char *const names[] = {"CPU",	"FSIZE",  "DATA",    "STACK", "CORE",  "RSS",
					    "NPROC",	"NOFILE", "MEMLOCK", "AS",    "LOCKS", "SIGPENDING",
					    "MSGQUEUE", "NICE",	  "RTPRIO",  "RTTIME"};
	printf("\"rlimits\":{");
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		struct rlimit l;
		getrlimit(i, &l);
		printf("%s\"RLIMIT_%s\":[\"%llu\",\"%llu\"]", i ? "," : "", names[i],
		       (unsigned long long)l.rlim_cur, (unsigned long long)l.rlim_max);
	}
	printf("},");
}

static void descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	int first = 1;
	printf("\"fds\":[");
	while (d && (e = readdir(d))) {
		int fd = atoi(e->d_name);
		char path[64];
		if (e->d_name[0] == '.' || fd == dirfd(d))
			continue;
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		printf("%s{\"fd\":%d,\"flags\":%d,\"target\":", first ? "" : ",", fd, fcntl(fd, F_GETFL));
		json_link(path);
		putchar('}');
		first = 0;
	}
	if (d)
		closedir(d);
	printf("],");
}

static void scheduling(void)
{
	struct sched_attributes a = {.size = sizeof a};
	unsigned long nodes[16] = {0};
	int mode = -1;
	syscall(SYS_sched_getattr, 0, &a, sizeof a, 0);
	printf("\"sched\":{\"policy\":%u,\"flags\":%llu,\"nice\":%d,\"priority\":%u,\"runtime\":%llu,"
	       "\"deadline\":%llu,"
	       "\"period\":%llu},",
	       a.policy, a.flags, a.nice, a.priority, a.runtime, a.deadline, a.period);
	printf("\"ioprio\":%ld,", syscall(SYS_ioprio_get, 1, 0));
	syscall(SYS_get_mempolicy, &mode, nodes, sizeof nodes * 8, NULL, 0);
	printf("\"mempolicy\":{\"mode\":%d,\"nodes\":\"%lx\"},", mode, nodes[0]);
	printf("\"personality\":%d,", personality(0xffffffff));
}

static void prctls(void)
{
	int death = 0, reaper = 0;
	prctl(PR_GET_PDEATHSIG, &death);
	prctl(PR_GET_CHILD_SUBREAPER, &reaper);
	printf("\"prctl\":{\"dumpable\":%d,\"keepcaps\":%d,\"securebits\":%d,\"nnp\":%d,\"pdeathsig\":%d,"
	       "\"subreaper\":%d,\"timerslack\":%d},",
	       prctl(PR_GET_DUMPABLE), prctl(PR_GET_KEEPCAPS), prctl(PR_GET_SECUREBITS),
	       prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), death, reaper, prctl(PR_GET_TIMERSLACK));
}

static void clocks(void)
{
	struct timespec m, b;
	clock_gettime(CLOCK_MONOTONIC, &m);
	clock_gettime(CLOCK_BOOTTIME, &b);
	printf("\"monotonic\":%lld.%09ld,\"boottime\":%lld.%09ld,", (long long)m.tv_sec, m.tv_nsec,
	       (long long)b.tv_sec, b.tv_nsec);
}

static void keyring(void)
{
	char text[256];
	long n = syscall(SYS_keyctl, KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING, text, sizeof text);
	printf("\"keyring\":");
	if (n > 0)
		json_string(text, (size_t)n - 1);
	else
		printf("\"errno %d\"", errno);
	putchar(',');
}

static void network(void)
{
	struct ifreq lo = {.ifr_name = "lo"};
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int up = s >= 0 && ioctl(s, SIOCGIFFLAGS, &lo) == 0 && (lo.ifr_flags & IFF_UP);
	if (s >= 0)
		close(s);
	printf("\"loopback\":%s,", up ? "true" : "false");
}

int report(int argc, char **argv)
{
	struct utsname u;
	char text[4096];
	(void)argc;
	uname(&u);
	printf("{\"pid\":%d,\"ppid\":%d,\"sid\":%d,\"pgid\":%d,", getpid(), getppid(), getsid(0), getpgid(0));
	strings("args", argv);
	strings("env", environ);
	ids();
	status();
	limits();
	descriptors();
	scheduling();
	prctls();
	clocks();
	keyring();
	network();
	printf("\"uts\":[");
	json_string(u.nodename, strlen(u.nodename));
	putchar(',');
	json_string(u.domainname, strlen(u.domainname));
	putchar(',');
	json_string(u.machine, strlen(u.machine));
	printf("],\"cwd\":");
	if (!getcwd(text, sizeof text))
		strcpy(text, "");
	json_string(text, strlen(text));
	int tty = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
	printf(",\"ctty\":%s,\"foreground\":%d,\"tty\":", tty >= 0 ? "true" : "false",
	       tty >= 0 ? tcgetpgrp(tty) : -1);
	json_tty(STDIN_FILENO);
	printf("}\n");
	return 0;
}

static long number_of(const char *name)
{
	static const struct {
		const char *name;
		long number;
	} calls[] = {
	    {"mkdirat", SYS_mkdirat},
	    {"fchmodat", SYS_fchmodat},
	    {"unshare", SYS_unshare},
	    {"mount", SYS_mount},
	    {"keyctl", SYS_keyctl},
	    {"personality", SYS_personality},
	    {"socket", SYS_socket},
	    {"clone3", SYS_clone3},
	    {"reboot", SYS_reboot},
	    {"bpf", SYS_bpf},
	    {"setns", SYS_setns},
	    {"add_key", SYS_add_key},
	    {"getpid", SYS_getpid},
	    {"getppid", SYS_getppid},
	    {"sethostname", SYS_sethostname},
	    {"openat", SYS_openat},
	    {"mknodat", SYS_mknodat},
	    {"kexec_load", SYS_kexec_load},
	    {"prctl", SYS_prctl},
	    {"setgid", SYS_setgid},
	    {"setuid", SYS_setuid},
	    {"seteuid_r", SYS_setresuid},
	    {"swapon", SYS_swapon},
	    {"ptrace", SYS_ptrace},
	    {"umask", SYS_umask},
	    {"get_mempolicy", SYS_get_mempolicy},
	    {"mmap", SYS_mmap},
	};
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		if (strcmp(name, calls[i].name) == 0)
			return calls[i].number;
	if (name[0] >= '0' && name[0] <= '9')
		return strtol(name, NULL, 0);
	fprintf(stderr, "test-helper: unknown system call %s\n", name);
	exit(125);
}

// Each argument is "NAME ARG..."; an ARG starting with a digit or '-' is a number (base by its prefix),
// anything else a string. Prints {"call":..., "result":N, "error":"EPERM"|""} for each.
int system_calls(int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		long a[6] = {0};
		char *copy = strdup(argv[i]), *rest = NULL;
		char *name = strtok_r(copy, " ", &rest);
		int n = 0;
		for (char *word; n < 6 && (word = strtok_r(NULL, " ", &rest)); n++)
			a[n] = strchr("-0123456789", word[0]) ? (long)strtoull(word, NULL, 0) : (long)word;
		errno = 0;
		long r = syscall(number_of(name), a[0], a[1], a[2], a[3], a[4], a[5]);
		const char *error = r < 0 && errno ? strerrorname_np(errno) : "";
		printf("{\"call\":");
		json_string(argv[i], strlen(argv[i]));
		printf(",\"result\":%ld,\"error\":\"%s\"}\n", r, error ? error : "unknown");
		free(copy);
	}
	return 0;
}
