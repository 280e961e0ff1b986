/* TLS 1.2 and 1.3 to a server that both sides prove their name to: for the key layer's talk with key servers.
 *
 * Everything that is read or written here may be a key: records, session keys and the client's own key lie in locked memory.
 * No call waits past its deadline (clock_ms()). Not thread-safe per connection. Errors: -ETIMEDOUT the deadline passed; -ECONNRESET the
 * other side closed the connection; -EPROTO TLS failed; any other of sockets.
 */
#ifndef COFFER_TLS_H
#define COFFER_TLS_H

#include <coffer/crypto.h>

struct tls_files {
	const char *ca,
		*certificate;     /* paths of PEM files; the certificate may be followed by those that vouch for it */
	const struct secret *key; /* of the certificate, PEM */
	size_t key_len;           /* bytes of it that count */
};
enum { TLS_WHY_SIZE = 256 };

struct tls;
/* Takes over `fd`, a connected socket that does not block, whatever it returns. `host` is the name or address that the server's
 * certificate must be for. -EKEYREJECTED: the server's certificate is not to be trusted, for this host; -EINVAL: the files. */
int tls_connect(int fd, const char *host, const struct tls_files *files, int64_t deadline, struct tls **ret,
		char why[static TLS_WHY_SIZE]);
int tls_write(struct tls *t, const void *in, size_t len, int64_t deadline); /* all of it */
int tls_read(struct tls *t, void *out, size_t len, int64_t deadline);       /* all of it */
const char *tls_why(const struct tls *t);                                   /* after -EPROTO */
void tls_close(struct tls *t);                                              /* NULL is fine */

#endif
