// Swaps pairs of paths without end: `hostile-swap A B [A B]...`. What the runtime looked at once is then
// another thing when it looks again.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	if (argc < 3 || argc % 2 == 0)
		return 2;
	for (long round = 0;; round++) {
		for (int i = 1; i < argc; i += 2) {
			if (renameat2(AT_FDCWD, argv[i], AT_FDCWD, argv[i + 1], RENAME_EXCHANGE) == 0)
				continue;
			perror(argv[i]);
			return 1;
		}
		if (round == 10) {
			puts("swapping");
			fflush(stdout);
		}
	}
}
