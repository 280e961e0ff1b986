/* coffer mount */
#include "commands.h"

enum exit_code command_mount(int argc, char **argv)
{
	struct arguments a = { .command = "mount" };
	struct mount_request r = { 0 };
	const char *lists[64];
	size_t count = 0;
	enum exit_code code;
	struct config c;
	int option;

	while (take_option(&a, argc, argv, &option)) {
		if (option == 'f')
			r.foreground = true;
		else if (option == 'o' && count < sizeof(lists) / sizeof(lists[0]))
			lists[count++] = optarg;
	}
	if (!take_arguments(&a, argc, 2, 2, &c, &code))
		return code;
	mount_options_init(&r.options, &c);
	for (size_t i = 0; i < count; i++)
		if (mount_options_parse(&r.options, lists[i]) < 0)
			return EXIT_USAGE;
	r.backing = argv[optind];
	r.mountpoint = argv[optind + 1];
	r.config = &c;
	return daemon_mount(&r);
}
