#include "text.h"

#include <errno.h>
#include <string.h>

#include <coffer/util.h>

/* Every setting that was asked for is marked with this address; text_finish looks for unmarked ones. */
static char asked_for;

void text_refuse(struct text *t, const config_setting_t *s, const char *why)
{
	if (t->error)
		return;
	t->error = -EINVAL;
	if (!s)
		log_error("%s: %s", t->what, why);
	else if (config_setting_name(s))
		log_error("%s, line %u: setting \"%s\" %s", t->what, config_setting_source_line(s),
			  config_setting_name(s), why);
	else
		log_error("%s, line %u: %s", t->what, config_setting_source_line(s), why);
}

static void out_of_memory(struct text *t)
{
	if (!t->error)
		t->error = -ENOMEM;
}

/* libconfig looks at all settings of a group for each that it adds, so that their number must have a bound. The longest
 * descriptor, with keys of 80 digits in it, has fewer. */
enum { SETTINGS_MAX = 1 << 16 };

/* What libconfig must not see: includes (they read other files), bytes on which editors and parsers disagree, and more settings
 * than it handles in a second or two. */
static const char *objection(const char *text, size_t len)
{
	size_t settings = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c < ' ' && c != '\n' && c != '\t')
			return "holds control characters";
		settings += c == '=' || c == ':'; /* libconfig takes either */
	}
	if (settings > SETTINGS_MAX)
		return "has too many settings";
	if (memmem(text, len, "@include", strlen("@include")))
		return "holds an @include, which is not allowed here";
	return NULL;
}

void text_start(struct text *t, const char *what)
{
	t->what = what;
	t->error = 0;
	config_init(&t->config);
	config_set_tab_width(&t->config, 4);
	config_set_options(&t->config, CONFIG_OPTION_SEMICOLON_SEPARATORS);
}

int text_parse(struct text *t, const char *what, const char *text, size_t len)
{
	AUTO_FREE char *copy = NULL;
	const char *why;

	text_start(t, what);
	why = objection(text, len);
	if (why) {
		text_refuse(t, NULL, why);
		return t->error;
	}
	copy = strndup(text, len);
	if (!copy) {
		out_of_memory(t);
		return t->error;
	}
	if (config_read_string(&t->config, copy) != CONFIG_TRUE) {
		t->error = -EINVAL;
		log_error("%s, line %d: %s", what, config_error_line(&t->config), config_error_text(&t->config));
	}
	return t->error;
}

void text_end(struct text *t)
{
	config_destroy(&t->config);
}

config_setting_t *text_root(struct text *t)
{
	return config_root_setting(&t->config);
}

/* ---- reading ---- */

static config_setting_t *get(struct text *t, config_setting_t *group, const char *name)
{
	config_setting_t *s;

	if (t->error || !group)
		return NULL;
	s = config_setting_get_member(group, name);
	if (!s) {
		t->error = -EINVAL;
		log_error("%s, line %u: setting \"%s\" is missing", t->what, config_setting_source_line(group), name);
		return NULL;
	}
	config_setting_set_hook(s, &asked_for);
	return s;
}

bool text_get_number(struct text *t, config_setting_t *group, const char *name, uint64_t min, uint64_t max,
		     uint64_t *ret)
{
	config_setting_t *s = get(t, group, name);
	long long value;

	if (!s)
		return false;
	if (config_setting_type(s) != CONFIG_TYPE_INT && config_setting_type(s) != CONFIG_TYPE_INT64) {
		text_refuse(t, s, "must be a whole number");
		return false;
	}
	value = config_setting_get_int64(s);
	if (value < 0 || (uint64_t)value < min || (uint64_t)value > max) {
		text_refuse(t, s, "is out of range");
		return false;
	}
	*ret = (uint64_t)value;
	return true;
}

bool text_get_u32(struct text *t, config_setting_t *group, const char *name, uint32_t min, uint32_t *ret)
{
	uint64_t value;

	if (!text_get_number(t, group, name, min, UINT32_MAX, &value))
		return false;
	*ret = (uint32_t)value;
	return true;
}

bool text_get_bool(struct text *t, config_setting_t *group, const char *name, bool *ret)
{
	config_setting_t *s = get(t, group, name);

	if (!s)
		return false;
	if (config_setting_type(s) != CONFIG_TYPE_BOOL) {
		text_refuse(t, s, "must be true or false");
		return false;
	}
	*ret = config_setting_get_bool(s) == CONFIG_TRUE;
	return true;
}

static const char *get_text(struct text *t, config_setting_t *group, const char *name)
{
	config_setting_t *s = get(t, group, name);
	const char *value;

	if (!s)
		return NULL;
	value = config_setting_type(s) == CONFIG_TYPE_STRING ? config_setting_get_string(s) : NULL;
	if (!value)
		text_refuse(t, s, "must be a string");
	return value;
}

bool text_get_string(struct text *t, config_setting_t *group, const char *name, char *out, size_t out_size)
{
	const char *value = get_text(t, group, name);
	size_t len;

	if (!value)
		return false;
	len = strlen(value);
	if (!len || len >= out_size) {
		text_refuse(t, config_setting_get_member(group, name), len ? "is too long" : "is empty");
		return false;
	}
	memcpy(out, value, len + 1);
	return true;
}

bool text_get_hex_between(struct text *t, config_setting_t *group, const char *name, size_t min, size_t max,
			  uint8_t *out, size_t *ret_len)
{
	const char *value = get_text(t, group, name);

	if (!value)
		return false;
	if (hex_decode(value, strlen(value), out, max, ret_len) || *ret_len < min) {
		text_refuse(t, config_setting_get_member(group, name),
			    "must be hexadecimal digits of the right number");
		return false;
	}
	return true;
}

bool text_get_hex(struct text *t, config_setting_t *group, const char *name, uint8_t *out, size_t len)
{
	size_t got;

	return text_get_hex_between(t, group, name, len, len, out, &got);
}

bool text_get_list(struct text *t, config_setting_t *group, const char *name, size_t min, size_t max,
		   config_setting_t **ret, size_t *ret_count)
{
	config_setting_t *s = get(t, group, name);
	int count;

	if (!s)
		return false;
	if (!config_setting_is_list(s)) {
		text_refuse(t, s, "must be a list");
		return false;
	}
	count = config_setting_length(s);
	if (count < 0 || (size_t)count < min || (size_t)count > max) {
		text_refuse(t, s, "has too few or too many elements");
		return false;
	}
	*ret = s;
	*ret_count = (size_t)count;
	return true;
}

config_setting_t *text_get_element(struct text *t, config_setting_t *list, size_t index)
{
	config_setting_t *s;

	if (t->error || !list)
		return NULL;
	s = config_setting_get_elem(list, (unsigned)index);
	if (!s || !config_setting_is_group(s)) {
		text_refuse(t, list, "must hold groups only");
		return NULL;
	}
	return s;
}

void text_finish(struct text *t, config_setting_t *group)
{
	if (t->error || !group)
		return;
	for (int i = 0; i < config_setting_length(group); i++) {
		const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);

		if (config_setting_get_hook(s) != &asked_for) {
			text_refuse(t, s, "is unknown to this version of coffer");
			return;
		}
	}
}

/* ---- writing ---- */

static config_setting_t *add(struct text *t, config_setting_t *parent, const char *name, int type)
{
	config_setting_t *s;

	if (t->error || !parent)
		return NULL;
	s = config_setting_add(parent, name, type);
	if (!s)
		out_of_memory(t);
	return s;
}

void text_put_number(struct text *t, config_setting_t *group, const char *name, uint64_t value)
{
	/* Small ones without libconfig's suffix L, which tells readers nothing. */
	bool small = value <= INT32_MAX;
	config_setting_t *s = add(t, group, name, small ? CONFIG_TYPE_INT : CONFIG_TYPE_INT64);

	if (!s)
		return;
	if (value > TEXT_NUMBER_MAX) {
		t->error = -EINVAL;
		log_error("%s: the number for \"%s\" is too large to be stored", t->what, name);
	} else if (small) {
		config_setting_set_int(s, (int)value);
	} else {
		config_setting_set_int64(s, (long long)value);
	}
}

void text_put_bool(struct text *t, config_setting_t *group, const char *name, bool value)
{
	config_setting_t *s = add(t, group, name, CONFIG_TYPE_BOOL);

	if (s)
		config_setting_set_bool(s, value ? CONFIG_TRUE : CONFIG_FALSE);
}

void text_put_string(struct text *t, config_setting_t *group, const char *name, const char *value)
{
	config_setting_t *s = add(t, group, name, CONFIG_TYPE_STRING);

	if (s && config_setting_set_string(s, value) != CONFIG_TRUE)
		out_of_memory(t);
}

void text_put_hex(struct text *t, config_setting_t *group, const char *name, const uint8_t *value, size_t len)
{
	AUTO_FREE char *hex = malloc(2 * len + 1);

	if (!hex) {
		out_of_memory(t);
		return;
	}
	hex_encode(value, len, hex);
	text_put_string(t, group, name, hex);
}

config_setting_t *text_put_list(struct text *t, config_setting_t *group, const char *name)
{
	return add(t, group, name, CONFIG_TYPE_LIST);
}

config_setting_t *text_put_element(struct text *t, config_setting_t *list)
{
	return add(t, list, NULL, CONFIG_TYPE_GROUP);
}

void text_write(struct text *t, FILE *out)
{
	if (t->error)
		return;
	config_write(&t->config, out);
	if (ferror(out))
		out_of_memory(t);
}
