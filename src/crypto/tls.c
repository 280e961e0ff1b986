/* TLS on sockets that do not block. All of OpenSSL's memory but the authorities' certificates comes from the arena. */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>

#include "arena.h"
#include "coffer/tls.h"
#include "coffer/util.h"

struct tls {
	SSL_CTX *context;
	SSL *ssl;
	int fd;
	char why[TLS_WHY_SIZE];
};

/* ---- settings ---- */

static int complain(char why[static TLS_WHY_SIZE], int r, const char *what, const char *path)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = ERR_reason_error_string(code);

	snprintf(why, TLS_WHY_SIZE, "%s%s%s: %s", what, path ? " " : "", path ? path : "",
		 ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code))
		 : reason               ? reason
					: "no reason given");
	ERR_clear_error();
	return r;
}

/* A key that is itself encrypted would need somebody to ask. */
static int no_passphrase(char *buf, int size, int writing, void *arg)
{
	(void)buf, (void)size, (void)writing, (void)arg;
	return -1;
}

static EVP_PKEY *parse_key(const struct tls_files *files)
{
	BIO *in = BIO_new_mem_buf(secret_bytes(files->key), (int)files->key_len);
	EVP_PKEY *key = in ? PEM_read_bio_PrivateKey(in, NULL, no_passphrase, NULL) : NULL;

	BIO_free(in);
	return key;
}

static int use_files(SSL_CTX *c, const struct tls_files *files, char why[static TLS_WHY_SIZE])
{
	unsigned sensitive = sensitive_depth;
	EVP_PKEY *key;
	int r = 0;

	sensitive_depth = 0; /* nothing secret, and perhaps hundreds of certificates */
	if (!SSL_CTX_load_verify_file(c, files->ca))
		r = complain(why, -EINVAL, "the certificates of authorities in", files->ca);
	sensitive_depth = sensitive;
	if (r < 0)
		return r;
	if (SSL_CTX_use_certificate_chain_file(c, files->certificate) != 1)
		return complain(why, -EINVAL, "the client's certificate in", files->certificate);
	key = parse_key(files);
	if (!key)
		return complain(why, -EINVAL, "the client's private key", NULL);
	if (SSL_CTX_use_PrivateKey(c, key) != 1 || SSL_CTX_check_private_key(c) != 1)
		r = complain(why, -EINVAL, "the client's private key is not that of", files->certificate);
	EVP_PKEY_free(key);
	return r;
}

static int make_context(struct tls *t, const struct tls_files *files)
{
	t->context = SSL_CTX_new(TLS_client_method());
	if (!t->context || !SSL_CTX_set_min_proto_version(t->context, TLS1_2_VERSION) ||
	    !SSL_CTX_set_cipher_list(t->context, "ECDHE+AESGCM:ECDHE+CHACHA20"))
		return complain(t->why, -EIO, "OpenSSL", NULL);
	SSL_CTX_set_options(t->context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_session_cache_mode(t->context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(t->context, SSL_MODE_RELEASE_BUFFERS); /* idle connections hold little locked memory */
	SSL_CTX_set_verify(t->context, SSL_VERIFY_PEER, NULL);
	return use_files(t->context, files, t->why);
}

/* An address is looked for among the certificate's addresses, a name among its names, and only a name is told to the server. */
static int expect_host(SSL *ssl, const char *host)
{
	uint8_t address[16];

	if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host);
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	/* The macro SSL_set_tlsext_host_name casts away that the name is not written to, which clang minds. */
	return SSL_set1_host(ssl, host) &&
	       SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, (void *)(uintptr_t)host);
}

/* ---- waiting ---- */

/* After a call that returned `n`: 0 to try it again. */
static int handle(struct tls *t, int n, int64_t deadline)
{
	int error = SSL_get_error(t->ssl, n), system = errno;

	switch (error) {
	case SSL_ERROR_WANT_READ:
		return wait_for(t->fd, POLLIN, deadline);
	case SSL_ERROR_WANT_WRITE:
		return wait_for(t->fd, POLLOUT, deadline);
	case SSL_ERROR_ZERO_RETURN:
		return -ECONNRESET;
	case SSL_ERROR_SYSCALL:
		return system ? -system : -ECONNRESET;
	default:
		/* A connection cut off without goodbye is no different from one reset. */
		if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
			return -ECONNRESET;
		return complain(t->why, -EPROTO, "TLS", NULL);
	}
}

static int shake_hands(struct tls *t, const char *host, int64_t deadline)
{
	long verdict;
	int n, r = 0;

	do {
		ERR_clear_error();
		errno = 0;
		n = SSL_connect(t->ssl);
		if (n != 1)
			r = handle(t, n, deadline);
	} while (n != 1 && !r);
	verdict = SSL_get_verify_result(t->ssl);
	if (r == -EPROTO && verdict != X509_V_OK) {
		snprintf(t->why, TLS_WHY_SIZE, "the server's certificate is not to be trusted for %s: %s", host,
			 X509_verify_cert_error_string(verdict));
		r = -EKEYREJECTED;
	}
	return r;
}

int tls_connect(int fd, const char *host, const struct tls_files *files, int64_t deadline, struct tls **ret,
		char why[static TLS_WHY_SIZE])
{
	SENSITIVE_SCOPE;
	struct tls *t = calloc(1, sizeof(*t));
	int r;

	why[0] = '\0';
	if (!t) {
		close(fd);
		return -ENOMEM;
	}
	t->fd = fd;
	ERR_clear_error();
	r = make_context(t, files);
	if (!r) {
		t->ssl = SSL_new(t->context);
		if (!t->ssl || !SSL_set_fd(t->ssl, fd) || !expect_host(t->ssl, host))
			r = complain(t->why, -EIO, "OpenSSL", NULL);
	}
	if (!r)
		r = shake_hands(t, host, deadline);
	if (r) {
		memcpy(why, t->why, TLS_WHY_SIZE);
		tls_close(t);
		return r;
	}
	*ret = t;
	return 0;
}

/* Why a connection was closed may still wait to be read: with TLS 1.3 a server refuses a client's certificate only after the
 * client has begun to talk. */
static int last_words(struct tls *t, int r)
{
	uint8_t byte;
	size_t got;

	ERR_clear_error();
	if (!SSL_read_ex(t->ssl, &byte, 1, &got) && SSL_get_error(t->ssl, 0) == SSL_ERROR_SSL)
		r = handle(t, 0, 0);
	return r;
}

int tls_write(struct tls *t, const void *in, size_t len, int64_t deadline)
{
	SENSITIVE_SCOPE;
	size_t done;
	int r = 0;

	/* Without partial writes a call is repeated until all of it is gone. */
	do {
		ERR_clear_error();
		errno = 0;
		if (SSL_write_ex(t->ssl, in, len, &done))
			return 0;
		r = handle(t, 0, deadline);
	} while (!r);
	return r == -EPIPE || r == -ECONNRESET ? last_words(t, r) : r;
}

int tls_read(struct tls *t, void *out, size_t len, int64_t deadline)
{
	SENSITIVE_SCOPE;
	uint8_t *at = out;
	size_t got;
	int r = 0;

	while (len && !r) {
		ERR_clear_error();
		errno = 0;
		if (SSL_read_ex(t->ssl, at, len, &got)) {
			at += got;
			len -= got;
		} else {
			r = handle(t, 0, deadline);
		}
	}
	return r;
}

const char *tls_why(const struct tls *t)
{
	return t->why;
}

void tls_close(struct tls *t)
{
	if (!t)
		return;
	if (t->ssl && SSL_is_init_finished(t->ssl)) {
		SENSITIVE_SCOPE;
		SSL_shutdown(t->ssl); /* says goodbye, and waits for nothing */
	}
	ERR_clear_error();
	SSL_free(t->ssl);
	SSL_CTX_free(t->context);
	close(t->fd);
	free(t);
}
