/* Loaded before a program's own libraries: flips a bit of a write of the size in SPOIL_SIZE, as a volume that does not keep what it is
 * given would. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t off);
ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t off)
{
	ssize_t (*real)(int, const void *, size_t,
			off64_t) = (ssize_t(*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
	const char *size = getenv("SPOIL_SIZE");
	uint8_t *copy = size && strtoul(size, NULL, 10) == len ? malloc(len) : NULL;

	if (!copy)
		return real(fd, buf, len, off);
	memcpy(copy, buf, len);
	copy[len / 2] ^= 1;
	ssize_t done = real(fd, copy, len, off);

	free(copy);
	return done;
}
