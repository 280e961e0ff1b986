/* The text of a descriptor, without its last line: between descriptor.c and the two files that know the settings. */
#ifndef COFFER_KEY_DESCRIPTOR_TEXT_H
#define COFFER_KEY_DESCRIPTOR_TEXT_H

#include <stddef.h>

#include <coffer/descriptor.h>

#define DESCRIPTOR_MAGIC "coffer volume"

/* Fills the settings of `d`, which is zeroed. -EINVAL, -EPROTONOSUPPORT, -ENOMEM, logged; `d` may be filled in part. */
int descriptor_parse(struct descriptor *d, const char *body, size_t len);
/* *ret_body is malloc'ed and ends in a newline. -EINVAL: a value that no reader would accept, logged. */
int descriptor_write(const struct descriptor *d, char **ret_body, size_t *ret_len);

/* A whole text, with its last line; `text` is malloc'ed and becomes the descriptor's, or is freed. Errors as descriptor_load. */
int descriptor_take(char *text, size_t len, struct descriptor **ret);

#endif
