/*
 * smb SMB.CONF smb://USER:PASSWORD@HOST/SHARE/FILE LOCAL
 *
 * Times of a file through SMB (LOCAL is the same file), which has them at 100 ns; past 2038.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <libsmbclient.h>

#define CHECK(condition)                                                        \
	do {                                                                    \
		if (!(condition)) {                                             \
			printf("smb.c:%d: not so: %s\n", __LINE__, #condition); \
			return 1;                                               \
		}                                                               \
	} while (0)

enum { TICK = 100 };
static const time_t after_2038 = 4262304000; /* 2105-01-25 */

static void no_password(const char *server, const char *share, char *group, int group_size, char *user, int user_size,
			char *password, int password_size)
{
	/* All of it is in the URL. */
	(void)server, (void)share, (void)group, (void)group_size, (void)user, (void)user_size, (void)password,
		(void)password_size;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	CHECK(setenv("SMB_CONF_PATH", argv[1], 1) == 0 && smbc_init(no_password, 0) == 0);
	for (long nsec = 0; nsec < 1000000000; nsec += 123456789) {
		struct timespec times[2] = { { after_2038, nsec }, { after_2038 + nsec % 1000, nsec } };
		struct timeval set[2] = { { after_2038, nsec / 1000 },
					  { after_2038 + 1, (nsec / 1000 + 7) % 1000000 } };
		struct stat st;

		CHECK(utimensat(AT_FDCWD, argv[3], times, 0) == 0 && smbc_stat(argv[2], &st) == 0);
		CHECK(st.st_mtim.tv_sec == times[1].tv_sec && st.st_mtim.tv_nsec == nsec / TICK * TICK);
		CHECK(smbc_utimes(argv[2], set) == 0 && stat(argv[3], &st) == 0);
		CHECK(st.st_mtim.tv_sec == set[1].tv_sec && st.st_mtim.tv_nsec == set[1].tv_usec * 1000);
	}
	printf("times are exact\n");
	return 0;
}
