/* A volume at rest, for a copy of its backing directory. */
#include <coffer/util.h>

#include "keeper.h"
#include "names.h"

int volume_freeze(struct volume *v, void (*hold)(void *arg), void *arg)
{
	/* A scope that is being locked has its data written, which would be held back. */
	LOCK_SCOPE(&v->key_lock);
	hold(arg);
	GATE_SCOPE(v);
	flush_lazy(v);
	atomic_store(&v->frozen, true);
	int r = store_freeze(v->store);

	if (r < 0)
		atomic_store(&v->frozen, false);
	return r;
}

/* What lost its last reference meanwhile could not be removed. */
static void bury_forgotten(struct volume *v)
{
	size_t count;
	AUTO_FREE uint64_t *numbers = orphans_list(v, &count);

	for (size_t i = 0; i < count; i++)
		names_bury(v, numbers[i]);
}

void volume_thaw(struct volume *v)
{
	store_thaw(v->store);
	atomic_store(&v->frozen, false);
	if (v->read_only)
		return;
	keeper_settle(v);
	GATE_SCOPE(v);
	bury_forgotten(v);
}
