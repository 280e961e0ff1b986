/* From errors to exit codes. */
#include <coffer/exit.h>
#include <errno.h>

enum exit_code exit_code_of(int r)
{
	switch (-r) {
	case 0:
		return EXIT_DONE;
	case ENODATA: /* no descriptor */
		return EXIT_NOT_A_VOLUME;
	case EBADMSG:
		return EXIT_WRONG_KEY;
	case EUCLEAN:
		return EXIT_DAMAGED;
	case ENOENT: /* no such key */
	case EACCES:
	case ENOKEY:
	case EINVAL:
	case EHOSTUNREACH: /* no key server */
	case EOPNOTSUPP:   /* the key server cannot do what is needed */
	case ENOTUNIQ:     /* several keys of one name */
		return EXIT_KEY_REFUSED;
	case EBUSY:
		return EXIT_BUSY;
	case ENOTEMPTY:
		return EXIT_EXISTS;
	case EPROTONOSUPPORT:
		return EXIT_FORMAT;
	case ESTALE:
	case EKEYREJECTED:
		return EXIT_CHANGED;
	case EIO:
	case ENOSPC:
	case EROFS:
	case EDQUOT:
		return EXIT_IO;
	default:
		return EXIT_OTHER;
	}
}
