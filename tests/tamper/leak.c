/*
 * What the leak test needs:
 *   leak search PATTERNS PATH...   looks for patterns in files, and everything below directories: their contents, names, link
 *                                  targets and attributes. Each as it is, and in encodings that somebody might take for
 *                                  hiding: hexadecimal, base64, UTF-16, backwards. Ends with 1 if it found any.
 *   leak dump DIR                  writes to stdout, in clear, all that a tree holds: the control, in which all must be found
 *   leak keys BACKING STATE        prints patterns: the keys of a volume
 *   leak hold FILE                 keeps a file's bytes in ordinary memory, until it is killed
 *   leak syslog SOCKET             writes to stdout what others log, until it is killed
 *
 * A line of PATTERNS: NAME HEX [COUNT]. Short ones may turn up by chance in random data: then COUNT says how often it takes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <coffer/key.h>
#include <coffer/util.h>

enum { PATTERNS = 4096, LONGEST = 256, NAME_LEN = 64 };

static struct pattern {
	char name[NAME_LEN], encoding[16];
	uint8_t bytes[LONGEST * 2];
	size_t len;
	unsigned wanted, found;
	char where[160]; /* first */
} patterns[PATTERNS];
static unsigned pattern_count;
static bool starts[1 << 16];                              /* by the first two bytes of any pattern */
static unsigned next_same[PATTERNS], first_same[1 << 16]; /* lists by those, numbers + 1 */
static unsigned long long searched;

static void die(const char *what)
{
	fprintf(stderr, "leak: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* ---- patterns ---- */
static void add(const char *name, const char *encoding, const uint8_t *bytes, size_t len, unsigned wanted)
{
	if (len < 4)
		return;
	if (pattern_count == PATTERNS || len > sizeof(patterns[0].bytes))
		die("too many patterns, or too long");
	struct pattern *p = &patterns[pattern_count];
	unsigned start = bytes[0] | bytes[1] << 8;

	snprintf(p->name, sizeof(p->name), "%s", name);
	snprintf(p->encoding, sizeof(p->encoding), "%s", encoding);
	memcpy(p->bytes, bytes, len);
	p->len = len;
	p->wanted = wanted;
	starts[start] = true;
	next_same[pattern_count] = first_same[start];
	first_same[start] = ++pattern_count;
}

/* The digits that stand for the bytes wherever they begin among others. */
static void add_base64(const char *name, const uint8_t *bytes, size_t len, unsigned wanted)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (unsigned phase = 0; phase < 3; phase++) {
		uint8_t out[LONGEST * 2];
		size_t n = 0;
		unsigned bits = 0, have = 0;

		/* With `phase` unknown bytes before: bits from the first digit that none of them is part of. */
		for (size_t i = 0; i < len; i++) {
			bits = bits << 8 | bytes[i];
			have += 8;
			if (i == 0 && phase) { /* 8 * phase bits before: the digit begun there is not ours */
				have -= phase == 1 ? 4 : 2;
				bits &= (1u << have) - 1;
			}
			while (have >= 6 && n < sizeof(out)) {
				have -= 6;
				out[n++] = (uint8_t)digits[bits >> have & 63];
			}
		}
		add(name, "base64", out, n, wanted);
	}
}

static void add_encodings(const char *name, const uint8_t *bytes, size_t len, unsigned wanted)
{
	char hex[2 * LONGEST + 1];
	uint8_t other[2 * LONGEST];

	add(name, "plain", bytes, len, wanted);
	for (size_t i = 0; i < len; i++)
		other[i] = bytes[len - 1 - i];
	add(name, "backwards", other, len, wanted);
	if (len < 8) /* of a number, hexadecimal digits are as likely by chance as the number itself */
		return;
	hex_encode(bytes, len, hex);
	add(name, "hex", (uint8_t *)hex, 2 * len, 1);
	for (char *c = hex; *c; c++)
		*c = *c >= 'a' ? (char)(*c - 'a' + 'A') : *c;
	add(name, "HEX", (uint8_t *)hex, 2 * len, 1);
	for (size_t i = 0; i < len; i++) {
		other[2 * i] = bytes[i];
		other[2 * i + 1] = 0;
	}
	add(name, "UTF-16", other, 2 * len, 1);
	add_base64(name, bytes, len, 1);
}

static void read_patterns(const char *path)
{
	FILE *f = fopen(path, "re");
	char line[4096], name[NAME_LEN], hex[2 * LONGEST + 1];

	if (!f)
		die(path);
	while (fgets(line, sizeof(line), f)) {
		uint8_t bytes[LONGEST];
		unsigned wanted = 1;
		size_t len;

		if (sscanf(line, "%63s %512s %u", name, hex, &wanted) < 2)
			continue;
		if (hex_decode(hex, strlen(hex), bytes, sizeof(bytes), &len) < 0)
			die(line);
		add_encodings(name, bytes, len, wanted);
	}
	fclose(f);
}

/* ---- searching ---- */
static void search(const char *where, const char *part, const uint8_t *data, size_t len)
{
	searched += len;
	for (size_t i = 0; i + 3 < len; i++) {
		unsigned start = data[i] | data[i + 1] << 8;

		if (!starts[start])
			continue;
		for (unsigned n = first_same[start]; n; n = next_same[n - 1]) {
			struct pattern *p = &patterns[n - 1];

			if (p->len > len - i || memcmp(data + i, p->bytes, p->len) != 0)
				continue;
			if (p->found++ == 0)
				snprintf(p->where, sizeof(p->where), "%.120s, %s at %zu", where, part, i);
		}
	}
}

static void search_numbers(const char *path, const struct stat *st)
{
	const struct timespec *times[] = { &st->st_atim, &st->st_mtim };
	uint8_t raw[64];

	for (int i = 0; i < 2; i++) {
		put_le64(raw, (uint64_t)times[i]->tv_sec);
		put_le64(raw + 8, (uint64_t)times[i]->tv_nsec);
		search(path, "its times", raw, 16);
	}
	put_le32(raw, st->st_uid);
	put_le32(raw + 4, st->st_gid);
	put_le64(raw + 8, st->st_rdev);
	put_le64(raw + 16, (uint64_t)st->st_size);
	search(path, "its attributes", raw, 24);
}

static void search_xattrs(const char *path)
{
	static char names[65536], value[65536];
	ssize_t len = llistxattr(path, names, sizeof(names));

	if (len > 0)
		search(path, "names of attributes", (uint8_t *)names, (size_t)len);
	for (ssize_t at = 0; at < len; at += (ssize_t)strlen(names + at) + 1) {
		ssize_t n = lgetxattr(path, names + at, value, sizeof(value));

		if (n > 0)
			search(path, "an attribute", (uint8_t *)value, (size_t)n);
	}
}

/* Data of a file, not its holes; each piece with what may stand across its start. */
static void search_file(const char *path, off_t size)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	off_t at = 0, end;

	if (fd < 0)
		die(path);
	while (at < size && (at = lseek(fd, at, SEEK_DATA)) >= 0) {
		end = lseek(fd, at, SEEK_HOLE);
		if (end <= at)
			return;
		void *map = mmap(NULL, (size_t)(end - at), PROT_READ, MAP_PRIVATE, fd, at & ~(off_t)4095);

		if (map == MAP_FAILED)
			die(path);
		search(path, "content", map, (size_t)(end - at));
		munmap(map, (size_t)(end - at));
		at = end;
	}
}

static int search_entry(const char *path, const struct stat *st, int type, struct FTW *f)
{
	char target[PATH_MAX];
	ssize_t len;

	(void)type;
	search(path, "its name", (const uint8_t *)path + f->base, strlen(path + f->base));
	search_numbers(path, st);
	search_xattrs(path);
	if (S_ISREG(st->st_mode))
		search_file(path, st->st_size);
	if (S_ISLNK(st->st_mode) && (len = readlink(path, target, sizeof(target))) > 0)
		search(path, "its target", (uint8_t *)target, (size_t)len);
	return 0;
}

static int run_search(int argc, char **argv)
{
	unsigned found = 0;

	read_patterns(argv[0]);
	for (int i = 1; i < argc; i++)
		if (nftw(argv[i], search_entry, 64, FTW_PHYS) < 0)
			die(argv[i]);
	for (unsigned i = 0; i < pattern_count; i++) {
		const struct pattern *p = &patterns[i];

		if (p->found < p->wanted)
			continue;
		printf("found %s (%s), %u times: %s\n", p->name, p->encoding, p->found, p->where);
		found++;
	}
	printf("%u patterns, %llu bytes: %u found\n", pattern_count, searched, found);
	return found ? 1 : 0;
}

/* ---- the control ---- */
static void put_value(uint64_t v)
{
	uint8_t raw[8];

	put_le64(raw, v);
	fwrite(raw, 1, 8, stdout);
}

static int dump_entry(const char *path, const struct stat *st, int type, struct FTW *f)
{
	static char text[1 << 20];
	uint8_t ids[8];
	ssize_t len = 0;

	(void)type;
	printf("%s", path + f->base);
	put_le32(ids, st->st_uid);
	put_le32(ids + 4, st->st_gid);
	fwrite(ids, 1, 8, stdout);
	put_value((uint64_t)st->st_size);
	put_value(st->st_rdev);
	put_value((uint64_t)st->st_mtim.tv_sec);
	put_value((uint64_t)st->st_mtim.tv_nsec);
	put_value((uint64_t)st->st_atim.tv_sec);
	if (S_ISLNK(st->st_mode))
		len = readlink(path, text, sizeof(text));
	else if (S_ISREG(st->st_mode)) {
		AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);

		len = fd < 0 ? -1 : read(fd, text, sizeof(text));
	}
	if (len < 0)
		die(path);
	fwrite(text, 1, (size_t)len, stdout);
	char names[4096], value[65536];
	ssize_t names_len = llistxattr(path, names, sizeof(names));

	for (ssize_t at = 0; at < names_len; at += (ssize_t)strlen(names + at) + 1) {
		len = lgetxattr(path, names + at, value, sizeof(value));
		printf("%s=", names + at);
		fwrite(value, 1, len > 0 ? (size_t)len : 0, stdout);
	}
	return 0;
}

/* ---- keys ---- */
static void print_key(const char *name, const uint8_t *bytes, size_t len)
{
	char hex[2 * LONGEST + 1];

	hex_encode(bytes, len, hex);
	printf("%s %s\n", name, hex);
}

static void print_unwrapped(const char *name, const char *uri, uint32_t version, const char *state,
			    const struct wrapped_key *wrapped)
{
	const struct key_provider *p = key_provider_for(uri);
	struct key_source *source;
	struct secret *key;

	if (!p || p->open(uri, state, &source) < 0 || p->unwrap(source, NULL, version, wrapped, &key) < 0)
		die(uri);
	print_key(name, secret_bytes(key), secret_size(key));
	/* The key of the first objects' blocks: what a cipher's memory would show. */
	struct kdf *kdf = kdf_new(key);

	for (uint64_t object = 1; object < 40 && strcmp(name, "volume-key") != 0; object++) {
		uint8_t info[24] = "COFK", out[64];
		char label[NAME_LEN];

		put_le16(info + 4, 1);
		put_le16(info + 6, SUITE_XTS_GMAC);
		put_le64(info + 8, object);
		if (!kdf || kdf_expand(kdf, info, sizeof(info), out, sizeof(out)) < 0)
			die("deriving");
		snprintf(label, sizeof(label), "%s-object%d", name, (int)object);
		print_key(label, out, 32);
	}
	if (strcmp(name, "volume-key") == 0) {
		static const char *const purposes[] = { "coffer descriptor mac", "coffer audit lines",
							"coffer audit head" };

		for (size_t i = 0; i < sizeof(purposes) / sizeof(purposes[0]); i++) {
			struct secret *derived = kdf ? kdf_secret(kdf, purposes[i], 32) : NULL;

			if (!derived)
				die("deriving");
			print_key(strrchr(purposes[i], ' ') + 1, secret_bytes(derived), 32);
			secret_free(derived);
		}
	}
	kdf_free(kdf);
	secret_free(key);
	p->close(source);
}

static int run_keys(const char *backing, const char *state)
{
	AUTO_CLOSE int fd = open(backing, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct descriptor *d = NULL;

	if (fd < 0 || crypto_start() < 0 || descriptor_load(fd, &d) < 0)
		die(backing);
	const struct scope_entry *s = &d->scopes[0];

	print_unwrapped("volume-key", s->key_uri, s->kek_version, state, &s->volume_key);
	for (size_t i = 0; i < s->dek_count; i++) {
		print_unwrapped("DEK", s->key_uri, s->kek_version, state, &s->deks[i].dek);
		if (s->suite == SUITE_XTS_GCM)
			print_unwrapped("infrastructure-DEK", "platform:infrastructure", s->infra_kek_version, state,
					&s->deks[i].infra);
	}
	descriptor_free(d);
	return 0;
}

/* ---- others ---- */
static _Noreturn void run_hold(const char *path)
{
	char *text;
	size_t len;

	if (read_file_at(AT_FDCWD, path, 1 << 20, &text, &len) < 0)
		die(path);
	printf("%zu\n", len);
	fflush(stdout);
	for (;;)
		pause();
}

static int run_syslog(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char line[65536];
	ssize_t n;

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die(path);
	while ((n = recv(fd, line, sizeof(line), 0)) >= 0) {
		fwrite(line, 1, (size_t)n, stdout);
		putchar('\n');
		fflush(stdout);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc >= 4 && !strcmp(argv[1], "search"))
		return run_search(argc - 2, argv + 2);
	if (argc == 3 && !strcmp(argv[1], "dump"))
		return nftw(argv[2], dump_entry, 64, FTW_PHYS) < 0;
	if (argc == 4 && !strcmp(argv[1], "keys"))
		return run_keys(argv[2], argv[3]);
	if (argc == 3 && !strcmp(argv[1], "hold"))
		run_hold(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "syslog"))
		return run_syslog(argv[2]);
	fprintf(stderr,
		"usage: leak search PATTERNS PATH... | dump DIR | keys BACKING STATE | hold FILE | syslog SOCKET\n");
	return 2;
}
