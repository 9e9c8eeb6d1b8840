/*
 * The interpreter under AddressSanitizer and UndefinedBehaviorSanitizer, fed with what is random or hostile.
 * Each mode ends with 0 when nothing was found; a finding of a sanitizer ends it otherwise.
 *
 *   sanitize load SEED COUNT        bunc_load of corrupted parts, each in memory of exactly its size
 *   sanitize home SEED COUNT        bunc_home of random passwd files
 *   sanitize mkpath ROOT < PATHS    bunc_mkpath of the paths (one a line) below a directory, as directory and
 * as file
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../../c/interp.h"
#include "../../c/sys.h"

size_t bunc_strlen(const char *text)
{
	return strlen(text);
}

static uint64_t seed;

/* xorshift64*: the same on every host. */
static uint32_t below(uint32_t limit)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (uint32_t)((seed * 2685821657736338717ull) >> 33) % limit;
}

/* A well-formed part with as many of everything as chance wants. */
static uint8_t *make_part(size_t *size)
{
	uint32_t nops = below(8), nrelocs = below(8), data = 8 * (2 + below(32));
	*size = sizeof(struct bunc_part) + nops * sizeof(struct bunc_op) + nrelocs * sizeof(uint32_t) + data;
	uint8_t *bytes = calloc(1, *size);
	struct bunc_part *part = (struct bunc_part *)bytes;
	struct bunc_op *ops = (struct bunc_op *)(part + 1);
	uint32_t *relocs = (uint32_t *)(ops + nops);
	*part = (struct bunc_part){.magic = BUNC_MAGIC,
				   .size = (uint32_t)*size,
				   .nops = nops,
				   .nrelocs = nrelocs,
				   .data_size = data};
	for (uint32_t i = 0; i < nops; i++) {
		ops[i].slot = below(4) ? BUNC_NO_SLOT : (uint8_t)below(BUNC_SLOTS);
		ops[i].tags = below(3) | below(3) << 4 | below(3) << 8;
		for (int a = 0; a < 3; a++)
			ops[i].args[a] = below(BUNC_SLOTS < data ? BUNC_SLOTS : data);
	}
	for (uint32_t i = 0; i < nrelocs; i++)
		relocs[i] = 8 * below(data / 8);
	return bytes;
}

static void corrupt(uint8_t *bytes, size_t size)
{
	static const uint32_t extremes[] = {0, 1, 0x7f, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff};
	for (uint32_t n = below(4); n; n--) {
		uint32_t at = below((uint32_t)size);
		if (below(2)) {
			bytes[at] ^= (uint8_t)(1 << below(8));
		} else if (at + 4 <= size) {
			uint32_t word = extremes[below(8)];
			memcpy(bytes + at, &word, sizeof(word));
		}
	}
}

static int load(uint32_t count)
{
	uint32_t fine = 0;
	for (uint32_t i = 0; i < count; i++) {
		size_t size;
		uint8_t *bytes = make_part(&size);
		corrupt(bytes, size);
		/* Half of them are cut off: the header then promises more than there is. */
		size_t cut = below(2) ? size : below((uint32_t)size + 1);
		uint8_t *exact = malloc(cut ? cut : 1);
		memcpy(exact, bytes, cut);
		if (bunc_load(exact, cut) == 0)
			fine++;
		free(exact);
		free(bytes);
	}
	printf("%u of %u parts were well formed\n", fine, count);
	return fine && fine < count ? 0 : 1;
}

static int home(uint32_t count)
{
	static const char *pieces[] = {"root", ":",    ":",	 ":",	    "x",	  "0",
				       "1000", "\n",   "/home/", "/",	    "4294967295", "99999999999",
				       "",     "::::", "\n\n",	 "\xff\xfe"};
	int fd = memfd_create("passwd", MFD_CLOEXEC);
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t parts = below(600);
		if (ftruncate(fd, 0) || lseek(fd, 0, SEEK_SET))
			return 1;
		for (uint32_t p = 0; p < parts; p++) {
			char run[5000];
			const char *piece = pieces[below(sizeof(pieces) / sizeof(pieces[0]))];
			size_t size = strlen(piece);
			if (below(100) == 0) {
				size = below(sizeof(run));
				memset(run, 'c', size);
				piece = run;
			}
			if (write(fd, piece, size) != (ssize_t)size)
				return 1;
		}
		size_t room = 7 + below(64);
		char *out = malloc(room);
		memset(out, 'u', room);
		long r = bunc_home(path, below(2) ? 0 : 1000, out, room);
		if (r != 0 || !memchr(out, 0, room) || strncmp(out, "HOME=", 5) != 0) {
			fprintf(stderr, "file %u: %ld\n", i, r);
			return 1;
		}
		free(out);
	}
	return 0;
}

static int make_paths(const char *dir)
{
	char line[16384];
	int root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	while (root >= 0 && fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		/* In memory of exactly its size, so that a read beyond its end is found. */
		char *path = strdup(line);
		for (int file = 0; file < 2; file++) {
			long fd = bunc_mkpath(root, path, file ? S_IFREG : S_IFDIR, 0755);
			if (fd >= 0)
				close((int)fd);
		}
		free(path);
	}
	return root < 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "mkpath") == 0)
		return make_paths(argv[2]);
	if (argc != 4)
		return 2;
	seed = strtoull(argv[2], 0, 10) * 2654435761u + 1;
	if (strcmp(argv[1], "load") == 0)
		return load((uint32_t)atoi(argv[3]));
	return strcmp(argv[1], "home") == 0 ? home((uint32_t)atoi(argv[3])) : 2;
}
