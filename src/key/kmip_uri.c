#include "kmip_uri.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/util.h>

#include "provider.h"

#define START "kmip://"

static bool parse_port(const char *text, size_t len, char port[static 6])
{
	unsigned value = 0;

	if (!len || len > 5)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		value = 10 * value + (unsigned)(text[i] - '0');
	}
	memcpy(port, text, len);
	port[len] = '\0';
	return value && value <= 65535;
}

/* HOST, HOST:PORT, [ADDRESS] or [ADDRESS]:PORT. */
static bool parse_server(const char *text, size_t len, struct kmip_server *ret)
{
	bool bracket = len && text[0] == '[';
	const char *end = bracket ? memchr(text, ']', len) : memchr(text, ':', len);
	const char *host = bracket ? text + 1 : text;
	size_t host_len = end ? (size_t)(end - host) : len;
	const char *rest = bracket && end ? end + 1 : end ? end : text + len;
	size_t rest_len = (size_t)(text + len - rest);

	if ((bracket && !end) || !host_len || host_len >= sizeof(ret->host))
		return false;
	for (size_t i = 0; i < host_len; i++)
		if (!isalnum((unsigned char)host[i]) && !strchr(bracket ? ":." : "-._", host[i]))
			return false;
	memcpy(ret->host, host, host_len);
	if (rest_len)
		return rest[0] == ':' && parse_port(rest + 1, rest_len - 1, ret->port);
	memcpy(ret->port, KMIP_PORT, sizeof(KMIP_PORT));
	return true;
}

static bool parse_servers(const char *text, size_t len, struct kmip_uri *ret)
{
	const char *end = text + len;

	for (;;) {
		const char *comma = memchr(text, ',', (size_t)(end - text));
		size_t n = (size_t)((comma ? comma : end) - text);

		if (ret->count == KMIP_SERVERS_MAX || !parse_server(text, n, &ret->servers[ret->count]))
			return false;
		ret->count++;
		if (!comma)
			return true;
		text = comma + 1;
	}
}

/* What follows the question mark. */
static bool parse_query(const char *text, struct kmip_uri *ret)
{
	static const char name[] = "name=", remote[] = "mode=remote";

	while (*text) {
		size_t len = strcspn(text, "&");

		if (len == strlen(remote) && !strncmp(text, remote, len) && !ret->remote) {
			ret->remote = true;
		} else if (!strncmp(text, name, strlen(name)) && !ret->name) {
			ret->by_name = true;
			if (key_uri_decode(text + strlen(name), len - strlen(name), &ret->name))
				return false;
		} else {
			return false;
		}
		text += len;
		if (*text && !*++text)
			return false; /* ends in & */
	}
	return true;
}

/* Names may be any text, identifiers what a server's answer may hold as one. */
static bool is_key_name(const struct kmip_uri *u)
{
	if (!u->name || !u->name[0] || strlen(u->name) >= (u->by_name ? KMIP_NAME_SIZE : KMIP_ID_SIZE))
		return false;
	for (const unsigned char *c = (const unsigned char *)u->name; *c; c++)
		if (*c < ' ' || *c == 0x7f)
			return false;
	return u->by_name || kmip_is_usable_id(u->name);
}

static bool parse(const char *uri, struct kmip_uri *ret)
{
	const char *slash, *query;
	size_t len;

	if (strncmp(uri, START, strlen(START)) || strchr(uri, '#'))
		return false;
	uri += strlen(START);
	slash = strchr(uri, '/');
	if (!slash || !parse_servers(uri, (size_t)(slash - uri), ret))
		return false;
	query = strchrnul(slash, '?');
	len = (size_t)(query - slash) - 1;
	if (len && key_uri_decode(slash + 1, len, &ret->name))
		return false;
	if (*query && (!query[1] || !parse_query(query + 1, ret)))
		return false;
	return is_key_name(ret);
}

int kmip_uri_parse(const char *uri, struct kmip_uri *ret)
{
	*ret = (struct kmip_uri){ 0 };
	if (parse(uri, ret))
		return 0;
	kmip_uri_free(ret);
	log_error(
		"%s: a key on a KMIP server is named by kmip://host[:port][,host...]/identifier or kmip://host/?name=name, with &mode=remote if the key must not leave it",
		uri);
	return -EINVAL;
}

void kmip_uri_free(struct kmip_uri *u)
{
	free(u->name);
	u->name = NULL;
}
