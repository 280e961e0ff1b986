/* Opening the volume that a daemon is to serve. */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include <coffer/crypto.h>

#include "daemon_internal.h"

enum {
	RECOVERY_TEXT_MAX = 1024, /* bytes, with whatever separates its groups */
	RETRY_MS = 50,            /* while another daemon has the volume */
	ENDING_SECONDS = 10,      /* at most, for one that was unmounted to end */
	SERVING_SECONDS = 1,      /* of answering commands: that one is not about to end */
};

/* Read here and not by the process that was started: what that has of keys does not come over the fork. */
static int read_recovery_key(struct secret **ret)
{
	AUTO_SECRET struct secret *text = secret_new(RECOVERY_TEXT_MAX);
	AUTO_SECRET struct secret *key = secret_new(KEY_SIZE);
	unsigned group = 0;
	size_t len = 0;
	int r = text && key ? read_secret(STDIN_FILENO, "recovery key", text, &len) : -ENOMEM;

	if (r == 0)
		r = recovery_read(text, len, key, &group);
	if (r == -EINVAL && group)
		log_error("the recovery key has a mistake in its group %u", group);
	else if (r == -EINVAL)
		log_error("a recovery key has %d groups of 6 digits", RECOVERY_GROUPS);
	else if (r < 0)
		log_error("the recovery key cannot be read from standard input: %s", strerror(-r));
	if (r < 0)
		return -EINVAL;
	*ret = key;
	key = NULL;
	return 0;
}

static bool is_mounted_there(const struct opening *p)
{
	struct mount_entry e;

	return mounts_at(p->mountpoint, &e) == 0 && mount_is_coffer(&e) && strcmp(e.source, p->source) == 0 &&
	       mount_answers(p->mountpoint) == 0;
}

/* A daemon whose mount is gone may still be writing its last state: then the volume is free in a moment. */
static int open_when_free(const struct opening *p, const struct volume_options *o, struct volume **ret)
{
	struct timespec pause = { .tv_nsec = RETRY_MS * 1000000L };
	int r, answers = 0;

	for (int i = 0; i < ENDING_SECONDS * 1000 / RETRY_MS; i++) {
		AUTO_CLOSE int fd = -1;

		r = volume_open(p->backing_fd, o, ret);
		if (r != -EBUSY)
			return r;
		if (p->request->mounted_will_do && is_mounted_there(p))
			return -EALREADY;
		if (control_connect(o->state_dir, p->backing, &fd) == 0 &&
		    ++answers > SERVING_SECONDS * 1000 / RETRY_MS)
			break;
		nanosleep(&pause, NULL);
	}
	log_error("%s: a daemon serves this volume already", p->backing);
	return -EBUSY;
}

enum exit_code open_volume(const struct opening *p, struct volume **ret)
{
	AUTO_SECRET struct secret *recovery = NULL;
	const struct config *c = p->request->config;
	struct volume_options o = {
		.read_only = p->request->options.read_only,
		.state_dir = c->state_dir,
		.accept_changes = p->request->options.accept_changes,
		.sync_interval = c->sync_interval,
		.key_poll = c->key_poll,
		.key_grace = c->key_grace,
		.key_flush = c->key_flush,
		.key_rotate_days = c->key_rotate_days,
		.requester = p->requester,
		.audit_keep = c->audit_keep,
	};
	struct descriptor *descriptor = NULL;
	int r;

	if (backing_has_volume(p->backing_fd) < 0) {
		log_error("%s: there is no volume here (no file %s)", p->backing, DESCRIPTOR_NAME);
		return EXIT_NOT_A_VOLUME;
	}
	/* An unreadable descriptor and an unusable key are different errors to the caller. */
	r = descriptor_load(p->backing_fd, &descriptor);
	if (r < 0)
		return r == -EPROTONOSUPPORT ? EXIT_FORMAT : r == -EIO ? EXIT_IO : EXIT_NOT_A_VOLUME;
	r = make_dirs(c->state_dir, 0700);
	if (r < 0)
		log_error("%s: %s", c->state_dir, strerror(-r));
	if (r == 0 && c->confine)
		r = confine(p->backing, c->state_dir, &c->keys);
	descriptor_free(descriptor);
	if (r < 0)
		return EXIT_OTHER;
	if (p->request->options.recovery && read_recovery_key(&recovery) < 0)
		return EXIT_WRONG_KEY;
	o.recovery = recovery ? &recovery : NULL;
	r = open_when_free(p, &o, ret);
	if (r == -EALREADY)
		log_notice("%s is mounted on %s already", p->source, p->mountpoint);
	return r == -EALREADY ? EXIT_DONE : exit_code_of(r);
}
