/* What an import says of itself. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "commands.h"
#include "import.h"

enum {
	SHOW_MS = 500,
	OBJECT_COST = 16 << 10, /* an object takes as long as so many bytes: for the time that is left */
};

static double cost(const struct import_count *c)
{
	return (double)c->bytes + (double)c->objects * OBJECT_COST;
}

static const char *size_text(uint64_t bytes, char *out, size_t size)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	double value = (double)bytes;
	unsigned unit = 0;

	for (; value >= 1024 && unit < 4; unit++)
		value /= 1024;
	snprintf(out, size, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
	return out;
}

static double seconds_since(int64_t ms)
{
	double s = (double)(clock_ms() - ms) / 1000;

	return s < 0.001 ? 0.001 : s;
}

/* The line is overwritten by the next one. */
static void clear_line(struct import *i)
{
	if (i->terminal && i->shown)
		fputs("\r\033[K", stderr);
	i->shown = 0;
}

void import_progress(struct import *i, bool now)
{
	char done[32], all[32], rate[32];
	double seconds = seconds_since(i->began), left;

	if (!i->terminal || (!now && i->shown && clock_ms() - i->shown < SHOW_MS))
		return;
	left = cost(&i->all) - cost(&i->there) - cost(&i->copied);
	left = left > 0 && cost(&i->copied) > 0 ? left * seconds / cost(&i->copied) : 0;
	clear_line(i);
	fprintf(stderr, "%" PRIu64 " of %" PRIu64 ", %s of %s, %s/s, %u:%02u left",
		i->copied.objects + i->there.objects, i->all.objects,
		size_text(i->copied.bytes + i->there.bytes, done, sizeof(done)),
		size_text(i->all.bytes, all, sizeof(all)),
		size_text((uint64_t)((double)i->copied.bytes / seconds), rate, sizeof(rate)), (unsigned)left / 60,
		(unsigned)left % 60);
	fflush(stderr);
	i->shown = clock_ms();
}

void import_say_not_taken(struct import *i, const char *why)
{
	clear_line(i);
	fprintf(stderr, "not taken: %s: %s\n", i->path, why);
	i->not_taken++;
}

void import_not_taken(struct import *i, const char *what, int error)
{
	char why[512];

	snprintf(why, sizeof(why), "%s%s%s", what ? what : "", what ? ": " : "", strerror(-error));
	import_say_not_taken(i, why);
}

void import_summary(struct import *i)
{
	double seconds = seconds_since(i->began);
	char bytes[32], rate[32];

	clear_line(i);
	printf("%" PRIu64 " copied and read back (%s, %s/s), %" PRIu64 " there before, %" PRIu64 " not taken\n",
	       i->copied.objects, size_text(i->copied.bytes, bytes, sizeof(bytes)),
	       size_text((uint64_t)((double)i->copied.bytes / seconds), rate, sizeof(rate)), i->there.objects,
	       i->not_taken);
}
