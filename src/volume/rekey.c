/* Moving an object to the keys of another scope, or to another DEK version of its own: it stays where it is, and its blocks are
 * sealed anew, piece by piece, from the first to the last. Its header is under the new keys from the first piece on and says how far
 * the move has come, so that every piece is one change, whole or not there (FORMAT.md, "Moving to other keys"). */
#include <errno.h>

#include <coffer/util.h>

#include "internal.h"

bool rekey_is_done(const struct meta *m, const struct rekey_target *t)
{
	return !meta_is_moving(m) && m->scope == t->scope && m->dek_version == t->dek_version;
}

/* Holes stay holes. */
static int write_again(struct change *ch, struct object *o, uint64_t first, unsigned count, const uint8_t *plain,
		       unsigned *ret_blocks)
{
	AUTO_FREE struct block_tag *tags = malloc(count * sizeof(*tags));
	int r = tags ? tags_read(ch->v, ch, o, first, count, tags) : -ENOMEM;

	for (unsigned at = 0, len; r == 0 && at < count; at += len) {
		bool none = is_hole(&tags[at]);

		for (len = 1; at + len < count && is_hole(&tags[at + len]) == none;)
			len++;
		if (none)
			continue;
		r = data_write(ch, o, first + at, len, plain + (size_t)at * BLOCK_SIZE,
			       meta_is_content(change_staged(ch, o)));
		*ret_blocks += len;
	}
	return r;
}

static int move_blocks(struct change *ch, struct object *o, struct meta *m, uint64_t first, unsigned *ret_blocks)
{
	unsigned count = data_piece(ch->v);
	uint8_t *plain = change_buffer(ch, (size_t)count * BLOCK_SIZE);
	uint64_t from = m->moved;
	int r = plain ? data_read(ch->v, ch, o, first, count, plain) : -ENOMEM;

	m->moved = first + count;
	if (r == 0)
		r = write_again(ch, o, first, count, plain, ret_blocks);
	if (plain)
		wipe(plain, (size_t)count * BLOCK_SIZE);
	return r < 0 ? r : tags_seal_again(ch, o, from, first, count);
}

int rekey_stage(struct change *ch, struct object *o, struct meta *m, const struct rekey_target *t, unsigned *ret_blocks)
{
	uint64_t next;

	*ret_blocks = 0;
	if (!meta_is_moving(m)) {
		m->old_scope = m->scope;
		m->old_dek_version = m->dek_version;
		m->scope = t->scope;
		m->dek_version = t->dek_version;
	}
	int r = tags_next(ch->v, ch, o, m->moved, &next);

	if (r == 0 && next != UINT64_MAX)
		r = move_blocks(ch, o, m, next, ret_blocks);
	if (r == 0)
		r = tags_next(ch->v, ch, o, m->moved, &next);
	if (r == 0 && next == UINT64_MAX) {
		m->old_scope = m->old_dek_version = 0;
		m->moved = 0;
	}
	return r;
}

int rekey_piece(struct volume *v, uint64_t number, const struct rekey_target *t, bool within, bool *ret_done,
		unsigned *ret_blocks)
{
	struct change ch;
	struct object *o;
	struct meta *m;
	int r = change_begin(v, &ch, data_payload(data_piece(v)), ROOM_IN_PLACE);

	if (r < 0)
		return r;
	r = change_pin(&ch, number, &o);
	if (r == 0)
		r = change_object(&ch, o, &m);
	*ret_done = r == 0 && (rekey_is_done(m, t) || (within && !meta_is_moving(m) && m->scope != t->scope));
	*ret_blocks = 0;
	if (r == 0 && !*ret_done)
		r = rekey_stage(&ch, o, m, t, ret_blocks);
	if (r == 0 && !*ret_done)
		return change_commit(&ch);
	change_abort(&ch);
	return r;
}
