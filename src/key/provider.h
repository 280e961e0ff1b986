/* What the key providers share. */
#ifndef COFFER_KEY_PROVIDER_H
#define COFFER_KEY_PROVIDER_H

#include <stdbool.h>

#include <coffer/key.h>

extern const struct key_provider provider_platform;
extern const struct key_provider provider_file, provider_credential;
extern const struct key_provider provider_kmip;
extern const struct key_provider provider_provided;
int provided_source(struct secret **key, struct key_source **ret); /* takes the key over, also on failure */

const struct key_settings *key_settings(void); /* as configured; all empty before that */

/* A part of a URI, percent-decoded and malloc'ed. -EINVAL: bad digits, or a NUL. */
int key_uri_decode(const char *text, size_t len, char **ret);

enum { FINGERPRINT_SIZE = 17 }; /* 16 digits and NUL */
/* Tells keys apart and tells nothing about them: half of the hash of a MAC that nothing else uses. */
int key_fingerprint(const struct secret *key, char out[static FINGERPRINT_SIZE]);

/* Reads a file that holds a key, at most the size of `buf`, without letting the bytes pass anything but locked memory.
 * -ENOENT: none there; -EACCES: not to be read by us, open to others than its owner, or not a regular file; -EFBIG: does not fit.
 * `name` is for messages; NULL: no messages. */
int key_file_read(int dirfd, const char *path, const char *name, struct secret *buf, size_t *ret_len);

#endif
