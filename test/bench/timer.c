// Times commands for the benchmark: spawn, wait, nanoseconds of CLOCK_MONOTONIC. A program of its own because
// a Bun process (threads, a garbage collector, a 100 MB image to spawn from) adds noise of the size of what
// is measured.
//
//   bench-timer WARMUP RUNS SECONDS < plan
//
// The plan is text, one item per line, fields separated by tabs:
//
//   entrant               a new competitor; the lines that follow are its steps
//   run PROGRAM ARG...    a step: run the program (an absolute path) to its end, which must be exit 0
//   reap FILE             a step: wait for the container whose pid is in FILE to end, which must be exit 0
//
// Every round runs all steps of every entrant once, the entrants in random order, so that what one leaves to
// the kernel (a network namespace is torn down later) burdens the others alike. WARMUP rounds are not
// counted. RUNS rounds are, or at least 5 when SECONDS are over. Prints JSON: nanoseconds by entrant, step
// and run. The first failure ends it with status 1, the command and all it printed on standard error.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STEP_SECONDS = 30, MIN_RUNS = 5 };

struct step {
	char **fields; // the line's fields and a NULL: "run" and a command, or "reap" and a file
	bool reaps;
	long long *nanoseconds;
};

struct entrant {
	struct step *steps;
	size_t count;
};

static struct entrant *entrants;
static size_t entrant_count;
static int output; // memfd that the commands write to
static posix_spawn_file_actions_t redirections;
static volatile sig_atomic_t waited_for, late;

extern char **environ;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("bench-timer: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	exit(1);
}

static void *grow(void *array, size_t count, size_t size)
{
	void *bigger = reallocarray(array, count, size);
	if (!bigger)
		die("out of memory");
	return bigger;
}

static long long now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

// Reports a failed step with the command and what it printed.
__attribute__((noreturn, format(printf, 2, 3))) static void fail(const struct step *step, const char *format,
								 ...)
{
	char buffer[4096];
	ssize_t length;
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	fputc(':', stderr);
	for (char **field = step->fields; *field; field++)
		fprintf(stderr, " %s", *field);
	fputc('\n', stderr);
	fflush(stderr);
	for (off_t at = 0; (length = pread(output, buffer, sizeof buffer, at)) > 0; at += length)
		if (write(STDERR_FILENO, buffer, length) != length)
			break;
	exit(1);
}

static void on_alarm(int signal)
{
	(void)signal;
	late = 1;
	if (waited_for > 0)
		kill(waited_for, SIGKILL);
}

// Ended from outside, it takes the command it waits for along: who ended it wants to clean up after both.
static void on_end(int signal)
{
	if (waited_for > 0)
		kill(waited_for, SIGKILL);
	_exit(128 + signal);
}

// Waits for a child to exit with 0. What takes too long is killed.
static void await(const struct step *step, pid_t pid)
{
	int status;
	waited_for = pid;
	alarm(STEP_SECONDS);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			fail(step, "waitpid %d: %s", pid, strerror(errno));
	alarm(0);
	waited_for = 0;
	if (late)
		fail(step, "killed after %d s", STEP_SECONDS);
	if (WIFSIGNALED(status))
		fail(step, "killed by signal %d", WTERMSIG(status));
	if (WEXITSTATUS(status) != 0)
		fail(step, "exit status %d", WEXITSTATUS(status));
}

static void run(const struct step *step)
{
	pid_t pid;
	int error = posix_spawn(&pid, step->fields[1], &redirections, NULL, step->fields + 1, environ);
	if (error)
		fail(step, "%s", strerror(error));
	await(step, pid);
}

// The container's init became a child of this subreaper when the `create` that started it ended.
static void reap(const struct step *step)
{
	char text[32] = {0};
	int file = open(step->fields[1], O_RDONLY | O_CLOEXEC);
	if (file < 0 || read(file, text, sizeof text - 1) < 0)
		fail(step, "%s", strerror(errno));
	close(file);
	char *end;
	long pid = strtol(text, &end, 10);
	if (pid <= 1 || pid > 1 << 22 || (*end && *end != '\n'))
		fail(step, "no pid: \"%s\"", text);
	await(step, (pid_t)pid);
}

// `line` is cut into fields in place and must live on.
static void add_line(char *line)
{
	size_t count = 0;
	char **fields = NULL;
	for (char *field; (field = strsep(&line, "\t"));) {
		fields = grow(fields, count + 2, sizeof *fields);
		fields[count++] = field;
		fields[count] = NULL;
	}
	if (!strcmp(fields[0], "entrant") && count == 1) {
		entrants = grow(entrants, entrant_count + 1, sizeof *entrants);
		entrants[entrant_count++] = (struct entrant){0};
		free(fields);
		return;
	}
	bool reaps = !strcmp(fields[0], "reap") && count == 2;
	if (!reaps && !(!strcmp(fields[0], "run") && count >= 2))
		die("plan: \"%s\" with %zu fields is neither entrant, run nor reap", fields[0], count);
	if (entrant_count == 0)
		die("plan: a step before the first entrant");
	struct entrant *last = &entrants[entrant_count - 1];
	last->steps = grow(last->steps, last->count + 1, sizeof *last->steps);
	last->steps[last->count++] = (struct step){.fields = fields, .reaps = reaps};
}

static void read_plan(long runs)
{
	char *line = NULL;
	size_t size = 0;
	for (ssize_t length; (length = getline(&line, &size, stdin)) > 0; line = NULL, size = 0) {
		line[strcspn(line, "\n")] = 0;
		add_line(line);
	}
	free(line);
	if (entrant_count == 0)
		die("plan: no entrant");
	for (size_t i = 0; i < entrant_count; i++) {
		if (entrants[i].count == 0)
			die("plan: entrant %zu has no steps", i + 1);
		for (size_t j = 0; j < entrants[i].count; j++)
			entrants[i].steps[j].nanoseconds = grow(NULL, runs, sizeof(long long));
	}
}

// All entrants once, in random order. `run_number` is negative while warming up.
static void one_round(long run_number)
{
	size_t order[entrant_count];
	for (size_t i = 0; i < entrant_count; i++) {
		size_t other = random() % (i + 1);
		order[i] = order[other];
		order[other] = i;
	}
	for (size_t i = 0; i < entrant_count; i++) {
		const struct entrant *entrant = &entrants[order[i]];
		for (size_t j = 0; j < entrant->count; j++) {
			const struct step *step = &entrant->steps[j];
			if (ftruncate(output, 0) < 0 || lseek(output, 0, SEEK_SET) < 0)
				die("memfd: %s", strerror(errno));
			long long start = now();
			if (step->reaps)
				reap(step);
			else
				run(step);
			if (run_number >= 0)
				step->nanoseconds[run_number] = now() - start;
		}
		while (waitpid(-1, NULL, WNOHANG) > 0)
			; // orphans that came to this subreaper
	}
}

// [[[first step's runs], [second step's runs]], [[next entrant's ...]]]
static void print(long runs)
{
	for (size_t i = 0; i < entrant_count; i++) {
		fputs(i ? ",\n[" : "[[", stdout);
		for (size_t j = 0; j < entrants[i].count; j++) {
			fputs(j ? ",[" : "[", stdout);
			for (long k = 0; k < runs; k++)
				printf(k ? ",%lld" : "%lld", entrants[i].steps[j].nanoseconds[k]);
			putchar(']');
		}
		putchar(']');
	}
	puts("]");
}

static long number(const char *text, const char *name, long least)
{
	char *end;
	errno = 0;
	long value = strtol(text, &end, 10);
	if (errno || *end || end == text || value < least || value > 1000000)
		die("%s: \"%s\" is not a number from %ld to 1000000", name, text, least);
	return value;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		die("usage: bench-timer WARMUP RUNS SECONDS < plan");
	long warmup = number(argv[1], "WARMUP", 0), runs = number(argv[2], "RUNS", 1);
	long seconds = number(argv[3], "SECONDS", 1);
	read_plan(runs);
	sigaction(SIGALRM, &(struct sigaction){.sa_handler = on_alarm}, NULL);
	struct sigaction end_action = {.sa_handler = on_end};
	sigaction(SIGINT, &end_action, NULL);
	sigaction(SIGTERM, &end_action, NULL);
	sigaction(SIGHUP, &end_action, NULL);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 || prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
		die("prctl: %s", strerror(errno));
	output = memfd_create("bench-output", MFD_CLOEXEC);
	if (output < 0)
		die("memfd_create: %s", strerror(errno));
	if (posix_spawn_file_actions_init(&redirections) ||
	    posix_spawn_file_actions_addopen(&redirections, STDIN_FILENO, "/dev/null", O_RDONLY, 0) ||
	    posix_spawn_file_actions_adddup2(&redirections, output, STDOUT_FILENO) ||
	    posix_spawn_file_actions_adddup2(&redirections, output, STDERR_FILENO))
		die("out of memory");

	for (long i = -warmup; i < 0; i++)
		one_round(i);
	long done = 0;
	long long end = now() + seconds * 1000000000LL;
	while (done < runs && (done < MIN_RUNS || now() < end))
		one_round(done++);
	print(done);
	return fflush(stdout) == 0 ? 0 : 1;
}
