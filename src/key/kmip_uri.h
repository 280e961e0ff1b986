/* The URIs of keys on KMIP servers:
 *
 *	kmip://HOST[:PORT][,HOST[:PORT]...]/UID[?mode=remote]
 *	kmip://HOST[:PORT][,HOST[:PORT]...]/?name=NAME[&mode=remote]
 *
 * UID and NAME are percent-encoded where need be; an IPv6 address stands in brackets.
 */
#ifndef COFFER_KEY_KMIP_URI_H
#define COFFER_KEY_KMIP_URI_H

#include <stdbool.h>

#include "kmip_client.h"

#define KMIP_PORT "5696"

struct kmip_uri {
	size_t count;
	struct kmip_server servers[KMIP_SERVERS_MAX]; /* those after `count` are zero */
	char *name;                                   /* unique identifier, or name; malloc'ed */
	bool by_name, remote;
};
int kmip_uri_parse(const char *uri, struct kmip_uri *ret); /* -EINVAL, logged */
void kmip_uri_free(struct kmip_uri *u);                    /* what is in it */

#endif
