/* What Coffer asks a KMIP server (versions 1.2 to 1.4), and what it makes of the answers. Pure: no I/O.
 *
 * One request is one message of one or two operations. Whatever is about a key asks for its attributes first, and nothing of
 * the rest of the answer is looked at unless they are those of an Active AES-256 key (or of a Deactivated one, where the request
 * says that it will do): servers hand out the bytes of deactivated and compromised ones too. Requests and answers may hold keys:
 * both lie in secrets.
 */
#ifndef COFFER_KEY_KMIP_MESSAGE_H
#define COFFER_KEY_KMIP_MESSAGE_H

#include <stdbool.h>

#include <coffer/crypto.h>

enum {
	KMIP_ID_SIZE = 128,        /* bytes of a unique identifier, with its NUL */
	KMIP_NAME_SIZE = 512,      /* bytes of a name, with its NUL */
	KMIP_REQUEST_MAX = 4096,   /* bytes */
	KMIP_ANSWER_MAX = 1 << 16, /* bytes; told to the server, and longer ones are not read */
	KMIP_MINOR_MIN = 2,        /* of protocol version 1 */
	KMIP_MINOR_MAX = 4,
};
/* The wrapped form where the server itself encrypts: nonce, tag, ciphertext. */
enum { KMIP_WRAPPED_SIZE = NONCE_SIZE + TAG_SIZE + KEY_SIZE };

enum kmip_question {
	KMIP_VERSIONS, /* Discover Versions */
	KMIP_LOCATE,   /* Locate: Active symmetric keys of a name */
	KMIP_DESCRIBE, /* Get Attributes */
	KMIP_GET,      /* Get Attributes, Get */
	KMIP_ENCRYPT,  /* Get Attributes, Encrypt: AES-256-GCM with AAD; from version 1.4 on */
	KMIP_DECRYPT,  /* likewise */
};
struct kmip_request {
	enum kmip_question question;
	const char *key;  /* its unique identifier; KMIP_LOCATE: its name */
	const char *name; /* KMIP_GET, KMIP_DECRYPT: a Deactivated key will do, too, if this is a name of it */
	const struct secret *plain;        /* KMIP_ENCRYPT: KEY_SIZE bytes */
	const struct wrapped_key *wrapped; /* KMIP_DECRYPT: KMIP_WRAPPED_SIZE bytes */
	uint8_t nonce[NONCE_SIZE];         /* KMIP_ENCRYPT: random, never used before */
};
/* -EINVAL: a request that cannot be made; -EMSGSIZE: no room in `out`. */
int kmip_request_write(const struct kmip_request *q, unsigned minor, struct secret *out, size_t *ret_len);

struct kmip_answer {
	unsigned minor;        /* KMIP_VERSIONS: the newest one that both know */
	unsigned found;        /* KMIP_LOCATE: how many keys */
	char id[KMIP_ID_SIZE]; /* KMIP_LOCATE: the first */
	bool deactivated;      /* the key is: it may unwrap what it wrapped, and nothing else. Also after an error */
	struct secret *key;    /* KMIP_GET, KMIP_DECRYPT: KEY_SIZE bytes; the caller's to free */
	struct wrapped_key wrapped; /* KMIP_ENCRYPT */
	char why[256];              /* after an error: what is wrong, for people; printable ASCII */
};
/* Fills `ret` from the answer to `q`.
 * -ENOENT: there is no such key; -EACCES: denied, or not Active; -EINVAL: not an AES-256 key; -EBADMSG: does not decrypt;
 * -EPROTONOSUPPORT: the server does not speak this version; -EOPNOTSUPP: it cannot do what was asked;
 * -EREMOTEIO: it failed; -EPROTO: what came is no answer to `q`; -ENOMEM. */
int kmip_answer_read(const struct kmip_request *q, unsigned minor, const uint8_t *in, size_t len,
		     struct kmip_answer *ret);
/* Identifiers go into the descriptor, into URIs and into logs. */
bool kmip_is_usable_id(const char *id);
int kmip_answer_length(const uint8_t header[static 8],
		       size_t *ret); /* -EPROTO: no answer begins so, or it is too long */

#endif
