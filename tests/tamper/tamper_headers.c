/* Changes of the files of headers as a whole, which many objects share: those whose header is as it was still read. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <coffer/util.h>

#include "tamper.h"

enum { FOLDER = 4096 };

static const struct scene scenes[] = {
	{ "removed", "rm $A", COMPARED, -1 },
	{ "second removed", "rm $B", COMPARED, -1 },
	{ "both removed", "rm $A $B", COMPARED, -1 },
	{ "emptied", ": >$A", COMPARED, -1 },
	{ "second emptied", ": >$B", COMPARED, -1 },
	{ "larger", "truncate -s 100G $A; truncate -s 20000000 $B", HARMLESS, 0 },
	{ "exchanged", "mv $A x; mv $B $A; mv x $B", COMPARED, -1 },
	{ "of another folder", "cp $B $A", COMPARED, -1 },
	{ "second of another folder", "cp $A $B", COMPARED, -1 },
	{ "of another volume", "cp $FOREIGN/$A $A", COMPARED, -1 },
	{ "second of another volume", "cp $FOREIGN/$B $B", COMPARED, -1 },
	{ "linked", "ln -f $A $B", REFUSABLE, -1 },
	{ "a FIFO", "rm $A; mkfifo $A", COMPARED_READING, -1 },
	{ "second a FIFO", "rm $B; mkfifo $B", COMPARED_READING, -1 },
	{ "a directory", "rm $A; mkdir $A", COMPARED_READING, -1 },
	{ "second a directory", "rm $B; mkdir $B", COMPARED_READING, -1 },
	{ "a link to nowhere", "rm $A; ln -s ../../nothing $A", COMPARED_READING, -1 },
	{ "second a link to nowhere", "rm $B; ln -s ../../nothing $B", COMPARED_READING, -1 },
	{ "a link to another", "rm $B; ln -s ../../$A $B", COMPARED_READING, -1 },
	{ "a link to itself", "rm $B; ln -s headers $B", COMPARED_READING, -1 },
	{ "a link to where it was", "mv $B x; ln -s ../../x $B", COMPARED_READING, -1 },
	{ "a device", "rm $A; mknod $A c 1 3 || mkdir $A", COMPARED_READING, -1 },
	{ "second an endless device", "rm $B; mknod $B c 1 5 || mkdir $B", COMPARED_READING, -1 },
	{ "noise where no object is",
	  "head -c 8000 /dev/urandom | dd of=$A bs=4096 seek=2000 conv=notrunc; "
	  "head -c 70000 /dev/urandom | dd of=$B bs=4096 seek=3000 conv=notrunc; "
	  "head -c 4096 /dev/urandom | dd of=$A conv=notrunc",
	  HARMLESS, 2 + 18 + 1 },
	{ "noise past the last place", "head -c 70000 /dev/urandom | dd of=$A bs=4096 seek=4096 conv=notrunc", HARMLESS,
	  0 },
	{ "zeros where no object is", "head -c 70000 /dev/zero | dd of=$A bs=4096 seek=2000 conv=notrunc", HARMLESS,
	  0 },
	{ "part of a page at the end", "truncate -s 16000000 $B; truncate -s 16384000 $B; printf x >>$B", HARMLESS, 1 },
	{ "copies where no object is",
	  "header . 5 | dd of=$A bs=4096 seek=3000 conv=notrunc; header . 1 | dd of=$B bs=4096 seek=4000 conv=notrunc; "
	  "header $FOREIGN 5 | dd of=$A bs=4096 seek=3001 conv=notrunc; header . 5 | dd of=$A bs=4096 conv=notrunc; "
	  "header . 5 | dd of=$B bs=4096 seek=5000 conv=notrunc",
	  HARMLESS, 4 },
	{ "copy of the root over another", "header . 1 | dd of=$A bs=4096 seek=5 conv=notrunc", COMPARED, 0 },
	{ "copy of another over the root", "header . 5 | dd of=$A bs=4096 seek=1 conv=notrunc", COMPARED, -1 },
	{ "copy at the same place of another folder", "header . 4098 | dd of=$A bs=4096 seek=2 conv=notrunc", COMPARED,
	  0 },
	{ "copy at the same place of a folder of its own",
	  "mkdir objects/123; header . 2 | dd of=objects/123/headers bs=4096 seek=2", HARMLESS, 1 },
	{ "other names",
	  "cp $A objects/headers; cp $A objects/000/HEADERS; cp $A objects/000/headers.new; mkdir objects/headersx objects/456; "
	  "mkfifo objects/456/headers.old; cp $A headers",
	  HARMLESS, 0 },
	{ "a FIFO in a folder that nothing is in", "mkdir objects/456; mkfifo objects/456/headers", REFUSABLE, -1 },
};

/* ---- sizes ---- */
static void cut(unsigned folder, uint64_t size)
{
	char path[PATH_MAX], file[PATH_MAX], label[100];

	snprintf(label, sizeof(label), "headers: of folder %u cut off after %llu bytes", folder,
		 (unsigned long long)size);
	if (!wanted(label))
		return;
	snprintf(path, sizeof(path), "%s", fresh_copy(setup.world));
	headers_path(path, (uint64_t)folder * FOLDER, file);
	must(truncate(file, (off_t)size) == 0, "cutting off");
	setup.cases++;
	find_damage(path);
	run_copy(path, label);
	remove_tree(path);
}

static void cuts(void)
{
	/* Within a page: before, within, at the end of, and behind the record of a file without blocks. */
	static const uint64_t offsets[] = { 0, 1, 63, 64, 91, 92, 347, 348, 700, 4095 };
	static const uint64_t pages[] = { 1, 2, 3, 20, 50, 100, 400 };

	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		cut(0, (uint64_t)header_place(100) + offsets[i]);
		cut(1, (uint64_t)header_place(FOLDER + 80) + offsets[i]);
	}
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		cut(0, pages[i] * BLOCK_SIZE);
		cut(1, pages[i] * BLOCK_SIZE + (i % 2 ? 2000 : 0));
	}
}

/* ---- at the same place of two folders ---- */
static void exchange_folders(bool both)
{
	const char *label = both ? "headers: exchanged at the same place of two folders"
				 : "headers: copied to the same place of another folder";
	char path[PATH_MAX], a[PATH_MAX], b[PATH_MAX];
	uint8_t one[BLOCK_SIZE], two[BLOCK_SIZE];
	unsigned pairs = 0;

	if (!wanted(label))
		return;
	snprintf(path, sizeof(path), "%s", fresh_copy(setup.world));
	headers_path(path, 0, a);
	headers_path(path, FOLDER, b);
	AUTO_CLOSE int first = open(a, O_RDWR | O_CLOEXEC);
	AUTO_CLOSE int second = open(b, O_RDWR | O_CLOEXEC);

	for (uint64_t number = both; number < FOLDER; number += 3) { /* some of both stay */
		off_t at = header_place(number);
		bool found = false, other = false;

		for (unsigned i = 1; i < shared->count; i++) {
			found |= shared->nodes[i].number == number;
			other |= shared->nodes[i].number == number + FOLDER;
		}
		if (!found || !other)
			continue;
		must(pread_all(first, one, BLOCK_SIZE, at, NULL) == 0 &&
			     pread_all(second, two, BLOCK_SIZE, at, NULL) == 0 &&
			     pwrite_all(first, two, BLOCK_SIZE, at) == 0 &&
			     (!both || pwrite_all(second, one, BLOCK_SIZE, at) == 0),
		     "exchanging headers");
		pairs++;
		setup.cases++;
	}
	must(pairs > 10, "objects at the same place of two folders");
	find_damage(path);
	run_copy(path, label);
	remove_tree(path);
}

void tamper_headers(void)
{
	run_scenes("headers: ", scenes, sizeof(scenes) / sizeof(scenes[0]));
	cuts();
	exchange_folders(true);
	exchange_folders(false);
}
