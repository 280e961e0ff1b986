#include "provider.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include <coffer/util.h>

static const struct key_provider *const providers[] = { &provider_platform, &provider_file, &provider_credential,
							&provider_kmip, &provider_provided };

static struct key_settings settings;

void key_configure(const struct key_settings *s)
{
	settings = *s;
}

const struct key_settings *key_settings(void)
{
	return &settings;
}

const struct key_provider *key_provider_for(const char *uri)
{
	size_t len = strcspn(uri, ":");

	for (size_t i = 0; uri[len] && i < sizeof(providers) / sizeof(*providers); i++)
		if (strlen(providers[i]->scheme) == len && !memcmp(providers[i]->scheme, uri, len))
			return providers[i];
	return NULL;
}

static int hex_value(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

int key_uri_decode(const char *text, size_t len, char **ret)
{
	AUTO_FREE char *out = malloc(len + 1);
	size_t n = 0;

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < len; i++) {
		int high = 0, low = text[i];

		if (text[i] == '%') {
			high = i + 2 < len ? hex_value(text[i + 1]) : -1;
			low = high < 0 ? -1 : hex_value(text[i + 2]);
			if (low < 0 || !(high | low))
				return -EINVAL;
			i += 2;
		}
		out[n++] = (char)(high << 4 | low);
	}
	out[n] = '\0';
	*ret = out;
	out = NULL;
	return 0;
}

int key_fingerprint(const struct secret *key, char out[static FINGERPRINT_SIZE])
{
	static const char label[] = "coffer key fingerprint 1";
	uint8_t mac[MAC_SIZE], hash[32];
	int r = hmac_sha256(key, label, strlen(label), mac);

	if (!r)
		r = sha256(mac, sizeof(mac), hash);
	if (!r)
		hex_encode(hash, (FINGERPRINT_SIZE - 1) / 2, out);
	wipe(mac, sizeof(mac));
	return r;
}

static int check_file(int fd, const char *name)
{
	struct stat st;
	const char *why = NULL;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		why = "is not a regular file";
	else if (st.st_mode & 077)
		why = "holds a key but is open to its group or to others; give it mode 0600 or 0400";
	if (!why)
		return 0;
	if (name)
		log_error("%s %s", name, why);
	return -EACCES;
}

static key_file_opener *opener;
static void *opener_arg;

void key_set_opener(key_file_opener *open, void *arg)
{
	opener = open;
	opener_arg = arg;
}

/* Opening a FIFO or a device must neither block nor do anything. */
static int open_key_file(int dirfd, const char *path)
{
	int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int r = fd < 0 ? -errno : fd;

	if (r == -EPERM)
		r = -EACCES;
	return r == -EACCES && opener && path[0] == '/' ? opener(opener_arg, path) : r;
}

int key_file_read(int dirfd, const char *path, const char *name, struct secret *buf, size_t *ret_len)
{
	AUTO_CLOSE int fd = open_key_file(dirfd, path);
	size_t len = 0, more = 0;
	uint8_t beyond;
	int r;

	if (fd < 0) {
		r = fd;
		if (name && r != -EFBIG)
			log_error("the key file %s cannot be opened: %s", name, strerror(-r));
		return r == -ENOTDIR ? -ENOENT : r;
	}
	r = check_file(fd, name);
	if (r)
		goto out;
	r = pread_all(fd, secret_data(buf), secret_size(buf), 0, &len);
	if (!r && len == secret_size(buf))
		r = pread_all(fd, &beyond, 1, (off_t)len, &more);
	if (r && name)
		log_error("the key file %s cannot be read: %s", name, strerror(-r));
	if (!r && more) {
		wipe(&beyond, 1);
		r = -EFBIG;
	}
	if (!r)
		*ret_len = len;
out:
	return r;
}
