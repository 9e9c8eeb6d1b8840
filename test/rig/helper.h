// Shared by the two files of the test helper; what the functions print is JSON without a newline.
#ifndef TEST_HELPER_H
#define TEST_HELPER_H

#include <stddef.h>

void die(const char *what) __attribute__((noreturn));
void json_string(const char *s, size_t n);
void json_link(const char *path);
void json_tty(int fd);

int report(int argc, char **argv);
int system_calls(int argc, char **argv);

#endif
