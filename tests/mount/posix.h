/* The POSIX suite: what a random test rarely meets. Each case has a fresh directory of its own. */
#ifndef COFFER_TEST_POSIX_H
#define COFFER_TEST_POSIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct suite {
	const char *hook; /* command that unmounts (or kills the daemon) and mounts again; NULL: not possible */
	bool coffer;      /* the mount is Coffer's: also what only Coffer promises */
	bool brief;       /* with a twentieth of the entries, links... */
};
extern struct suite suite;

struct test {
	const char *name;
	bool (*run)(void);
};
extern const struct test name_tests[], dir_tests[], attr_tests[], acl_tests[], data_tests[], handle_tests[],
	full_tests[];

/* Leaves the test function, which returns bool, with a report. */
#define CHECK(condition)                                        \
	do {                                                    \
		if (!(condition)) {                             \
			report(__FILE__, __LINE__, #condition); \
			return false;                           \
		}                                               \
	} while (0)
/* The call fails with this error. */
#define CHECK_ERROR(wanted, call) CHECK((call) < 0 && errno_is(wanted))

void report(const char *file, int line, const char *what);
bool errno_is(int wanted);

/* A path in the test's directory, valid until 16 further calls. */
__attribute__((format(printf, 1, 2))) const char *path_of(const char *format, ...);

/* Unmounts and mounts again; nothing on the mount may be open. Does nothing where that is not possible. */
bool remount(void);
/* The same, but the daemon is killed. */
bool crash(void);

/* Creates a file with contents that follow from the seed; compares one. */
bool put_file(const char *path, size_t length, uint64_t seed);
bool has_contents(const char *path, size_t length, uint64_t seed);
void fill(unsigned char *data, size_t length, uint64_t seed);

/* Runs a function as another user and group, in a process of its own. */
bool as_user(uid_t uid, gid_t gid, bool (*function)(void));

double now(void);

#endif
