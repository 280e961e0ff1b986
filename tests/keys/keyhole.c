/* What the scripts in this folder need of programs: keyhole COMMAND ARGUMENT...
 *
 *	needles BACKING STATE SCOPE OBJECT   prints, one a line, NAME and digits of what a daemon needs in memory to serve the object:
 *	                                  the scope's KEK (a key file), its DEK, keys of the object and a round key made of each
 *	search PID                        reads such lines; prints each NAME and how often it is in the memory of the process
 *	hold FILE                         opens and maps FILE; for each line of input says what reading, fstat, the mapping, writing
 *	                                  and opening it again come to
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <coffer/manager.h>
#include <coffer/util.h>

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "keyhole: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- needles ---- */

/* AES's S-box by its definition: the inverse in GF(2^8), and an affine map. */
static uint8_t times(uint8_t a, uint8_t b)
{
	uint8_t r = 0;

	for (; b; b >>= 1, a = (uint8_t)(a << 1 ^ (a & 0x80 ? 0x1b : 0)))
		r ^= b & 1 ? a : 0;
	return r;
}

static uint8_t sbox(uint8_t x)
{
	uint8_t inverse = 0, r = 0x63;

	for (unsigned i = 1; i < 256 && x; i++)
		if (times(x, (uint8_t)i) == 1)
			inverse = (uint8_t)i;
	for (unsigned i = 0; i < 5; i++)
		r ^= (uint8_t)(inverse << i | inverse >> (8 - i));
	return r;
}

/* The third round key of AES-256: the first that is not the key itself. */
static void round_key(const uint8_t key[static 32], uint8_t out[static 16])
{
	for (unsigned i = 0; i < 4; i++)
		out[i] = key[i] ^ sbox(key[28 + (i + 1) % 4]) ^ (i ? 0 : 1);
	for (unsigned i = 4; i < 16; i++)
		out[i] = key[i] ^ out[i - 4];
}

static void print_needle(const char *name, const uint8_t *bytes, size_t len)
{
	char hex[129];

	hex_encode(bytes, len, hex);
	printf("%s %s\n", name, hex);
}

/* See object_key() in src/crypto/cryptor.c. */
static void print_object_key(const struct kdf *dek, enum suite suite, uint64_t object, unsigned purpose, unsigned kind,
			     size_t len, const char *name)
{
	uint8_t info[24] = "COFK", key[64], round[16];
	char label[64];

	put_le16(info + 4, (uint16_t)purpose);
	put_le16(info + 6, (uint16_t)suite);
	put_le64(info + 8, object);
	put_le32(info + 20, kind);
	must(kdf_expand(dek, info, sizeof(info), key, len) == 0, "deriving");
	print_needle(name, key, 32);
	round_key(key, round);
	snprintf(label, sizeof(label), "%s-schedule", name);
	print_needle(label, round, sizeof(round));
}

static int needles(char **argv)
{
	AUTO_CLOSE int dir = open(argv[0], O_RDONLY | O_DIRECTORY);
	AUTO_CLOSE int fd = -1;
	struct secret *text = secret_new(KEY_TEXT_MAX), *kek = secret_new(KEY_SIZE), *dek = NULL;
	uint64_t object = strtoull(argv[3], NULL, 10);
	const struct scope_entry *s;
	struct descriptor *d = NULL;
	AUTO_FREE char *path = NULL;
	struct kdf *kdf;
	size_t len = 0;

	must(dir >= 0 && text && kek && descriptor_load(dir, &d) == 0, argv[0]);
	s = descriptor_scope_named(d, argv[2]);
	must(s && key_file_path(s->key_uri, &path) == 0, argv[2]);
	fd = open(path, O_RDONLY);
	must(fd >= 0 && read_all(fd, secret_data(text), KEY_TEXT_MAX, &len) == 0 && !key_parse(text, len, kek), path);
	must(key_unwrap(kek, &s->deks[s->dek_count - 1].dek, &dek) == 0, "unwrapping");
	print_needle("KEK", secret_bytes(kek), KEY_SIZE);
	print_needle("DEK", secret_bytes(dek), KEY_SIZE);
	kdf = kdf_new(dek);
	must(kdf, "memory");
	print_object_key(kdf, s->suite, object, 1, 0, 64, "blocks");
	print_object_key(kdf, s->suite, object, 2, 0, 32, "tags");
	print_object_key(kdf, s->suite, object, 4, 1, 32, "header");
	kdf_free(kdf);
	secret_free(dek);
	secret_free(kek);
	secret_free(text);
	descriptor_free(d);
	return 0;
}

/* ---- search ---- */

enum { NEEDLES_MAX = 32, WINDOW = 1 << 20, LONGEST = 64 };
struct needle {
	char name[64];
	uint8_t bytes[LONGEST];
	size_t len;
	unsigned found;
};

static unsigned count_in(const uint8_t *hay, size_t len, const struct needle *n, size_t first)
{
	unsigned count = 0;
	const uint8_t *at = hay;

	while ((at = memmem(at, len - (size_t)(at - hay), n->bytes, n->len))) {
		count += (size_t)(at - hay) + n->len > first; /* what lies before was seen with the window before */
		at++;
	}
	return count;
}

static void search_region(int mem, uint64_t from, uint64_t to, struct needle *n, size_t count)
{
	static uint8_t window[LONGEST + WINDOW];
	size_t kept = 0;

	while (from < to) {
		size_t want = to - from < WINDOW ? (size_t)(to - from) : WINDOW;
		ssize_t got = pread(mem, window + kept, want, (off_t)from);

		if (got <= 0) {
			from += want; /* not there, or not memory */
			kept = 0;
			continue;
		}
		for (size_t i = 0; i < count; i++)
			n[i].found += count_in(window, kept + (size_t)got, &n[i], kept);
		from += (size_t)got;
		size_t all = kept + (size_t)got;

		kept = all < LONGEST ? all : LONGEST;
		memmove(window, window + all - kept, kept);
	}
}

static int search(char **argv)
{
	struct needle n[NEEDLES_MAX] = { 0 };
	char path[64], line[512], hex[2 * LONGEST + 1];
	size_t count = 0;
	uint64_t from, to;
	FILE *maps;
	int mem;

	while (count < NEEDLES_MAX && scanf("%63s %128s", n[count].name, hex) == 2) {
		must(hex_decode(hex, strlen(hex), n[count].bytes, LONGEST, &n[count].len) == 0, hex);
		count++;
	}
	snprintf(path, sizeof(path), "/proc/%s/mem", argv[0]);
	mem = open(path, O_RDONLY);
	must(mem >= 0, path);
	snprintf(path, sizeof(path), "/proc/%s/maps", argv[0]);
	maps = fopen(path, "r");
	must(maps, path);
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " r", &from, &to) == 2)
			search_region(mem, from, to, n, count);
	for (size_t i = 0; i < count; i++)
		printf("%s %u\n", n[i].name, n[i].found);
	return 0;
}

/* ---- hold ---- */

static sigjmp_buf after_fault;

static void on_fault(int sig)
{
	siglongjmp(after_fault, sig);
}

static const char *outcome(bool good)
{
	return good ? "ok" : errno == EACCES ? "EACCES" : strerror(errno);
}

static int hold(char **argv)
{
	int fd = open(argv[0], O_RDWR), again;
	volatile char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char line[64], c;
	struct stat st;

	must(fd >= 0 && map != MAP_FAILED, argv[0]);
	signal(SIGBUS, on_fault);
	c = map[0];
	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		printf("read:%s", outcome(pread(fd, &c, 1, 0) == 1));
		printf(" fstat:%s", outcome(fstat(fd, &st) == 0));
		if (sigsetjmp(after_fault, 1) == 0) {
			c = map[0];
			printf(" map:ok");
		} else {
			printf(" map:SIGBUS");
		}
		printf(" write:%s", outcome(pwrite(fd, &c, 1, 0) == 1));
		again = open(argv[0], O_RDONLY);
		printf(" open:%s\n", outcome(again >= 0));
		if (again >= 0)
			close(again);
		fflush(stdout);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int arguments;
		int (*run)(char **argv);
	} commands[] = { { "needles", 4, needles }, { "search", 1, search }, { "hold", 1, hold } };

	must(crypto_start() == 0, "starting");
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (argc > 1 && !strcmp(argv[1], commands[i].name) && argc == commands[i].arguments + 2)
			return commands[i].run(argv + 2);
	fprintf(stderr, "keyhole: see keyhole.c\n");
	return 2;
}
