/* Changes that a shell makes: folders, files that do not belong there, and the log's. */
#include <stdlib.h>

#include <coffer/util.h>

#include "tamper.h"

void run_script(const char *path, const char *script)
{
	AUTO_FREE char *command = NULL;

	must(asprintf(
		     &command,
		     "export FOREIGN='%s' OTHER='%s/diverged' SAVED='%s/saved' A=objects/000/headers B=objects/001/headers; "
		     "header() { dd if=$1/objects/$(printf %%03x $(($2 / 4096)))/headers bs=4096 skip=$(($2 %% 4096)) "
		     "count=1; }; exec 2>/dev/null; cd '%s' && { %s; }",
		     setup.foreign, setup.dir, setup.dir, path, script) > 0,
	     "memory");
	must(system(command) == 0, script);
}

void find_damage(const char *path)
{
	clear_damage();
	for (unsigned i = 0; i < shared->count; i++) {
		if (shared->nodes[i].kind == K_ALIAS) /* it is seen at its file */
			continue;
		add_damage((int)i, false, setup.world, path);
		if (shared->nodes[i].companion)
			add_damage((int)i, true, setup.world, path);
	}
}

/* A link that was planted where coffer writes is not followed. */
static void no_victim(const char *path, const char *label)
{
	char victim[PATH_MAX + 16];
	struct stat st;

	snprintf(victim, sizeof(victim), "%s/victim", path);
	if (lstat(victim, &st) == 0 && st.st_size)
		bad("%s: a link led coffer to writing into another file", label);
	snprintf(victim, sizeof(victim), "%s/nothing", setup.dir);
	if (lstat(victim, &st) == 0)
		bad("%s: a link led coffer to making another file", label);
}

static void run_scene(const struct scene *s, const char *label)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s", fresh_copy(setup.world));
	run_script(path, s->script);
	setup.cases++;
	clear_damage();
	if (s->outcome == COMPARED || s->outcome == COMPARED_READING)
		find_damage(path);
	if (s->outcome == REFUSABLE)
		run_refusable(path, label);
	else if (s->outcome == COMPARED_READING)
		run_reading(path, label);
	else
		run_copy(path, label);
	if (s->orphans >= 0 && shared->fsck.orphans != (uint64_t)s->orphans)
		bad("%s: fsck finds %llu objects without a name instead of %d", label,
		    (unsigned long long)shared->fsck.orphans, s->orphans);
	no_victim(path, label);
	remove_tree(path);
}

void run_scenes(const char *prefix, const struct scene *scenes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char label[200];

		snprintf(label, sizeof(label), "%s%s", prefix, scenes[i].label);
		if (wanted(label))
			run_scene(&scenes[i], label);
	}
}

static const struct scene folders[] = {
	{ "descriptor removed", "rm coffer.volume", REFUSABLE, -1 },
	{ "descriptor a FIFO", "rm coffer.volume; mkfifo coffer.volume", REFUSABLE, -1 },
	{ "descriptor a directory", "rm coffer.volume; mkdir coffer.volume", REFUSABLE, -1 },
	{ "descriptor endless", "rm coffer.volume; ln -s /dev/zero coffer.volume", REFUSABLE, -1 },
	{ "descriptor a link to itself", "rm coffer.volume; ln -s coffer.volume coffer.volume", REFUSABLE, -1 },
	{ "descriptor's successor planted", "cp $FOREIGN/coffer.volume coffer.volume.new", HARMLESS, 0 },
	{ "descriptor's successor a link", "touch victim; ln -s victim coffer.volume.new", HARMLESS, 0 },
	{ "descriptor's successor a FIFO", "mkfifo coffer.volume.new", HARMLESS, 0 },
	{ "descriptor's successor a directory", "mkdir -p coffer.volume.new/x", REFUSABLE, -1 },
	{ "objects/ removed", "rm -r objects", REFUSABLE, -1 },
	{ "objects/ empty", "rm -r objects; mkdir objects", COMPARED, -1 },
	{ "objects/ a file", "rm -r objects; touch objects", REFUSABLE, -1 },
	{ "objects/ of another volume", "rm -r objects; cp -a $FOREIGN/objects .", COMPARED, -1 },
	{ "objects/000 removed", "rm -r objects/000", COMPARED, -1 },
	{ "objects/000 renamed", "mv objects/000 objects/002", COMPARED, -1 },
	{ "objects/000 a file", "rm -r objects/000; touch objects/000", COMPARED, -1 },
	{ "objects/000 a FIFO", "rm -r objects/000; mkfifo objects/000", COMPARED, -1 },
	{ "objects/000 a link to nowhere", "rm -r objects/000; ln -s ../../nothing objects/000", COMPARED, -1 },
	{ "objects/000 a link to itself", "rm -r objects/000; ln -s 000 objects/000", COMPARED, -1 },
	{ "objects/000 of another volume", "rm -r objects/000; cp -a $FOREIGN/objects/000 objects/", COMPARED, -1 },
	{ "all files exchanged",
	  "cd objects/000; set -- [0-9a-f]??; last=$1; cp --sparse=auto $last x; for f; do "
	  "mv $f $last 2>/dev/null; last=$f; done; mv x $last",
	  COMPARED, -1 },
	{ "all files and the headers exchanged",
	  "cd objects/000; set -- *; last=$1; cp --sparse=auto $last x; for f; do "
	  "mv $f $last 2>/dev/null; last=$f; done; mv x $last",
	  COMPARED, -1 },
	{ "folders exchanged", "cd objects; mv 000 x; mv 001 000; mv x 001", COMPARED, -1 },
	{ "names in upper case",
	  "cd objects/000; for f in [0-9a-f]??; do mv $f $(echo $f | tr a-f A-F) 2>/dev/null || :; done", COMPARED,
	  -1 },
	{ "all files removed", "cd objects/000; rm [0-9a-f]??", COMPARED, -1 },
	{ "all files empty", "cd objects/000; for f in [0-9a-f]??; do : >$f; done", COMPARED, -1 },
	{ "all files and the headers empty", "cd objects/000; for f in *; do : >$f; done", COMPARED, -1 },
	{ "files planted",
	  "touch x objects/x objects/000/x objects/000/0000 objects/0000 log/x log/segment2; mkdir objects/zzz "
	  "objects/000/zzz objects/-1 log/y; ln -s / objects/000/000; mkfifo objects/000/fifo objects/y",
	  HARMLESS, 0 },
	{ "copies planted",
	  "cp -a objects/000/005 objects/000/fff; mkdir objects/fff; cp -a objects/000/005 objects/fff/005; "
	  "cp -a objects/000/001 objects/000/ffe; cp -a objects/000/001 objects/000/000; "
	  "cp -a objects/000 objects/123",
	  HARMLESS, -1 },
	{ "objects of another volume planted",
	  "cp -a $FOREIGN/objects/000 objects/002; cp $FOREIGN/objects/000/004 objects/000/ffd", HARMLESS, -1 },
	{ "log/ removed", "rm -r log", REFUSABLE, -1 },
	{ "log/ a file", "rm -r log; touch log", REFUSABLE, -1 },
	{ "log/ a link to nowhere", "rm -r log; ln -s ../nothing log", REFUSABLE, -1 },
	{ "lock a FIFO", "rm -f log/lock; mkfifo log/lock", REFUSABLE, -1 },
	{ "lock a directory", "rm -f log/lock; mkdir log/lock", REFUSABLE, -1 },
	{ "lock a link", "rm -f log/lock; ln -s ../victim log/lock", REFUSABLE, -1 },
	{ "lock removed", "rm -f log/lock", HARMLESS, 0 },
	{ "segment a FIFO", "rm -f log/segment0; mkfifo log/segment0", REFUSABLE, -1 },
	{ "segment a directory", "rm -f log/segment1; mkdir log/segment1", REFUSABLE, -1 },
	{ "segment a link", "rm -f log/segment1; ln -s ../victim log/segment1", REFUSABLE, -1 },
	{ "segment a link to a device", "rm -f log/segment0; ln -s /dev/zero log/segment0", REFUSABLE, -1 },
	{ "segments removed", "rm -f log/segment0 log/segment1", HARMLESS, 0 },
	{ "segments full of noise",
	  "head -c 3000000 /dev/urandom >log/segment0; head -c 70000 /dev/urandom >log/segment1", HARMLESS, 0 },
	{ "segments empty", ": >log/segment0; : >log/segment1", HARMLESS, 0 },
	{ "segments huge", "truncate -s 500G log/segment0; truncate -s 1T log/segment1", HARMLESS, 0 },
	{ "segments of another volume", "cp $FOREIGN/log/segment* log/", HARMLESS, 0 },
};

void tamper_folders(void)
{
	run_scenes("", folders, sizeof(folders) / sizeof(folders[0]));
}
