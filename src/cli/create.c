/* coffer create */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "commands.h"

static void say_what_was_made(const char *backing, const char *key_uri, enum suite suite, const struct config *c)
{
	printf("%s: new volume, %s\n", backing, suite_name(suite));
	if (!key_uri || strcmp(key_uri, "platform:") == 0)
		printf("Its key is this machine's platform key, in %s.\n"
		       "Back that directory up: without it nobody can ever read the volume again, unless you make a\n"
		       "recovery key, once it is mounted: coffer key recovery MNT\n",
		       c->state_dir);
	else if (strcmp(key_uri, PROVIDED_URI) == 0)
		printf("Its key is kept nowhere: hand it over after each mount, with coffer key provide MNT.\n"
		       "It also needs this machine's platform key, in %s. Back both up.\n",
		       c->state_dir);
	else if (suite == SUITE_XTS_GCM)
		printf("It needs the key %s and, for the second encryption, this machine's platform key, in %s.\n"
		       "Back both up: without either nobody can ever read the volume again.\n",
		       key_uri, c->state_dir);
	else
		printf("Its key is %s.\nBack it up: without it nobody can ever read the volume again.\n", key_uri);
}

static enum exit_code create(const char *path, const char *key_uri, enum suite suite, const struct config *c)
{
	char backing[PATH_MAX];
	AUTO_CLOSE int fd = -1;
	enum exit_code code;
	struct secret *key = NULL;
	bool made = mkdir(path, 0700) == 0;
	int r;

	if (!made && errno != EEXIST) {
		log_error("%s: %s", path, strerror(errno));
		return EXIT_IO;
	}
	if (backing_open(path, &fd, backing) < 0)
		return EXIT_IO;
	code = start_crypto();
	if (code != EXIT_DONE)
		return code;
	r = make_dirs(c->state_dir, 0700);
	if (r < 0) {
		log_error("%s: %s", c->state_dir, strerror(-r));
		return EXIT_OTHER;
	}
	code = key_uri && strcmp(key_uri, PROVIDED_URI) == 0 ? read_key(&key) : EXIT_DONE;
	if (code != EXIT_DONE)
		return code;
	r = volume_create(fd, suite, key_uri, key, c->state_dir);
	if (r == -ENOTEMPTY)
		log_error("%s: not empty; a new volume needs an empty directory", path);
	if (r == 0)
		say_what_was_made(backing, key_uri, suite, c);
	else if (made)
		rmdir(backing);
	return exit_code_of(r);
}

int command_create(int argc, char **argv)
{
	struct arguments a = { .command = "create" };
	const char *key_uri = NULL, *integrity = "gmac";
	bool infrastructure = false;
	enum exit_code code;
	struct config c;
	int option;

	while (take_option(&a, argc, argv, &option)) {
		if (option == OPTION_KEY)
			key_uri = optarg;
		else if (option == OPTION_INFRASTRUCTURE)
			infrastructure = true;
		else if (option == OPTION_INTEGRITY)
			integrity = optarg;
	}
	if (!take_arguments(&a, argc, 1, 1, &c, &code))
		return code;
	if (strcmp(integrity, "gmac") != 0 && strcmp(integrity, "none") != 0) {
		log_error("--integrity is gmac or none, not '%s'", integrity);
		return EXIT_USAGE;
	}
	if (infrastructure && strcmp(integrity, "none") == 0) {
		log_error(
			"--infrastructure cannot go with --integrity none: the second encryption needs the tags that none leaves out");
		return EXIT_USAGE;
	}
	return create(argv[optind], key_uri,
		      infrastructure                   ? SUITE_XTS_GCM
		      : strcmp(integrity, "none") == 0 ? SUITE_XTS
						       : SUITE_XTS_GMAC,
		      &c);
}
