/* Exit codes of the program: stable, documented by `coffer --help`. */
#ifndef COFFER_EXIT_H
#define COFFER_EXIT_H

enum exit_code {
	EXIT_DONE = 0,
	EXIT_OTHER = 1,        /* any failure without a code of its own */
	EXIT_USAGE = 2,        /* unknown command, option or configuration setting */
	EXIT_NOT_A_VOLUME = 3, /* no volume there, or its descriptor cannot be read */
	EXIT_WRONG_KEY = 4,    /* the key does not open the volume */
	EXIT_KEY_REFUSED = 5,  /* the key is not there, or may not be used */
	EXIT_BUSY = 6,         /* another daemon serves the volume, or files on the mount are in use */
	EXIT_EXISTS = 7,       /* the directory for a new volume is not empty */
	EXIT_FORMAT = 8,       /* made by a newer Coffer */
	EXIT_CHANGED = 9,      /* the volume is not what this machine saw last */
	EXIT_MOUNT_POINT = 10, /* the mount point does not work */
	EXIT_IO = 11,          /* the backing directory failed */
	EXIT_DAMAGED = 12,     /* fsck or audit found errors, or the descriptor was altered */
	EXIT_NOT_WRITTEN = 13, /* unmounted, but the last state could not be written */
	EXIT_NOT_MOUNTED = 14, /* there is no mounted volume there */
	EXIT_INCOMPLETE = 15,  /* import was interrupted, or could not take all */
};

/* For what opening a volume answers: -errno of volume_open or descriptor_load. */
enum exit_code exit_code_of(int r);

#endif
