/* Runs a fuzzer's entry over every file of a corpus: replay DIRECTORY. Fails if there is none. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include <coffer/util.h>

#include "fuzz.h"

static int replay(int dir, const char *name)
{
	AUTO_FREE char *data = NULL;
	size_t len;
	int r = read_file_at(dir, name, 1 << 24, &data, &len);

	if (r) {
		fprintf(stderr, "%s: %s\n", name, strerror(-r));
		return r;
	}
	return LLVMFuzzerTestOneInput((const uint8_t *)data, len);
}

int main(int argc, char **argv)
{
	DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
	struct dirent *e;
	unsigned count = 0;
	int r = 0;

	if (!dir) {
		fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
		return 2;
	}
	while (!r && (e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		r = replay(dirfd(dir), e->d_name);
		count++;
	}
	closedir(dir);
	printf("%u inputs\n", count);
	return r || !count;
}
