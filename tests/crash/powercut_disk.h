/* Power-cut test: what powercut_disk.c, which follows the trace, and powercut_cut.c, which builds what a cut leaves, share. */
#ifndef COFFER_TEST_POWERCUT_DISK_H
#define COFFER_TEST_POWERCUT_DISK_H

#include "powercut.h"

enum { NAME_SIZE = 256 };

/* A change of a file that no sync covers yet. */
struct change {
	uint64_t index; /* of its record */
	uint32_t kind;
	uint64_t off, len; /* of a truncation: size */
	bool grows;
	unsigned char *data;
};
struct file {
	uint64_t ino;
	unsigned char *data; /* durable */
	uint64_t size;
	struct change *changes;
	size_t count, room;
};
struct entry {
	uint64_t dir, ino;
	bool is_dir;
	char name[NAME_SIZE];
};
struct name_change {
	uint64_t index;
	uint32_t kind;
	struct entry from, to; /* what goes, if its dir is not 0, and what comes */
};
struct syncing {
	uint64_t number, ino, index;
	bool whole;
};
struct disk {
	enum disk_model model;
	bool whole;
	uint64_t root;
	uint64_t floor; /* metadata before this record is durable: all of it, or, with DISK_STRICT, names */
	struct file **files;
	size_t file_count, file_room;
	struct entry *entries; /* durable */
	size_t entry_count, entry_room;
	struct name_change *names;
	size_t name_count, name_room;
	struct syncing *syncs;
	size_t sync_count, sync_room;
};

void *disk_grow(void *array, size_t *room, size_t count, size_t item);
struct file *disk_file(struct disk *d, uint64_t ino);
void content_resize(unsigned char **data, uint64_t *size, uint64_t want);
/* A change that is no write; a part of a write. */
void content_change(const struct change *c, unsigned char **data, uint64_t *size);
void content_write(const struct change *c, uint64_t from, uint64_t to, unsigned char **data, uint64_t *size);
void list_change(struct entry **list, size_t *count, size_t *room, const struct name_change *n);

#endif
