/* Strict reading and writing of the texts in libconfig's syntax: descriptor, key ring, pins.
 *
 * Strict: a missing setting, one of another type or out of range, and one that nobody asked for are errors, so that a text
 * means the same to every version that accepts it. Errors stick: after the first one, which is logged with its line, every
 * further call does nothing, so that callers check once, at the end. Not thread-safe per text.
 */
#ifndef COFFER_KEY_TEXT_H
#define COFFER_KEY_TEXT_H

#include <libconfig.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Numbers are stored as libconfig's signed 64-bit ones; the largest of those is what an overflow reads as: refused. */
#define TEXT_NUMBER_MAX ((uint64_t)INT64_MAX - 1)

struct text {
	config_t config;
	const char *what; /* for messages; the caller's, must outlive the text */
	int error;        /* 0, -EINVAL, or -ENOMEM */
};

/* Both set up `t`, whatever they return; undo with text_end. `text` need not be NUL-terminated. */
int text_parse(struct text *t, const char *what, const char *text, size_t len);
void text_start(struct text *t, const char *what);
void text_end(struct text *t);
#define AUTO_TEXT __attribute__((cleanup(text_end))) struct text
config_setting_t *text_root(struct text *t);
/* Logs and remembers an error in the meaning of a setting; `s` may be NULL. */
void text_refuse(struct text *t, const config_setting_t *s, const char *why);

/* ---- reading: fills *ret only when it returns true; no `max` above TEXT_NUMBER_MAX ---- */
bool text_get_number(struct text *t, config_setting_t *group, const char *name, uint64_t min, uint64_t max,
		     uint64_t *ret);
bool text_get_u32(struct text *t, config_setting_t *group, const char *name, uint32_t min, uint32_t *ret);
bool text_get_bool(struct text *t, config_setting_t *group, const char *name, bool *ret);
bool text_get_string(struct text *t, config_setting_t *group, const char *name, char *out,
		     size_t out_size); /* not empty */
bool text_get_hex(struct text *t, config_setting_t *group, const char *name, uint8_t *out,
		  size_t len); /* exactly len */
/* From `min` to `max` bytes, which is how much room `out` has. */
bool text_get_hex_between(struct text *t, config_setting_t *group, const char *name, size_t min, size_t max,
			  uint8_t *out, size_t *ret_len);
bool text_get_list(struct text *t, config_setting_t *group, const char *name, size_t min, size_t max,
		   config_setting_t **ret, size_t *ret_count);
config_setting_t *text_get_element(struct text *t, config_setting_t *list, size_t index); /* a group, or NULL */
/* After all settings of a group were read: refuses what is left over. */
void text_finish(struct text *t, config_setting_t *group);

/* ---- writing ---- */
void text_put_number(struct text *t, config_setting_t *group, const char *name, uint64_t value);
void text_put_bool(struct text *t, config_setting_t *group, const char *name, bool value);
void text_put_string(struct text *t, config_setting_t *group, const char *name, const char *value);
void text_put_hex(struct text *t, config_setting_t *group, const char *name, const uint8_t *value, size_t len);
config_setting_t *text_put_list(struct text *t, config_setting_t *group, const char *name); /* NULL after an error */
config_setting_t *text_put_element(struct text *t, config_setting_t *list);                 /* likewise */
void text_write(struct text *t, FILE *out);

#endif
