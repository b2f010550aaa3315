/* SPDX-License-Identifier: MIT */
/*
 * Spaces: created from stages and tag, shared, counted; and the tag index.
 */
#include <errno.h>
#include <string.h>
#include "core/extensible.h"
#include "shadow/dirty.h"
#include "shadow/mirror.h"
#include "shadow/shadow.h"
#include "shadow/space.h"

/* A terabyte of 4 KiB pages. */
#define SYNC_ENTRIES_MAX ((uint64_t)1 << 28)

/* Do rights of this stage depend on whether a request is privileged? */
static bool looks_at_privilege(unsigned format)
{
	switch (format) {
	case SNEST_FORMAT_VTD_SS:
	case SNEST_FORMAT_AMD_V1:
	case SNEST_FORMAT_ARM_S2:
		return false;
	default:
		return true;
	}
}

/* Field by field: between them is padding, which is whatever the caller's stack held. */
static bool same_stage(const struct snest_stage *a, const struct snest_stage *b)
{
	return a->format == b->format && a->levels == b->levels && a->ia_bits == b->ia_bits &&
	       a->oa_bits == b->oa_bits && a->rights == b->rights &&
	       a->granule_lg2 == b->granule_lg2 && a->ia_bits_high == b->ia_bits_high &&
	       a->granule_high_lg2 == b->granule_high_lg2 && a->flags == b->flags &&
	       a->root == b->root && a->root_high == b->root_high;
}

static bool same_identity(const struct snest_space *space, const struct snest_space_config *config)
{
	if (space->tag.domain != config->tag.domain || space->tag.space != config->tag.space ||
	    space->flags != config->flags || space->guest_stages != config->count)
		return false;
	for (unsigned i = 0; i < config->count; i++) {
		if (!same_stage(&space->stage_copy[i], &config->stages[i]))
			return false;
	}
	return true;
}

/* Under shadow->lock. */
static struct snest_space *find(struct sn_shadow *shadow, const struct snest_space_config *config)
{
	struct snest_space *space = shadow->tag[sn_tag_bucket(config->tag.domain)];

	/* One without references is on its way out. */
	while (space && !(space->references && same_identity(space, config)))
		space = space->next_in_tag;
	return space;
}

static void link_space(struct sn_shadow *shadow, struct snest_space *space)
{
	struct snest_space **bucket = &shadow->tag[sn_tag_bucket(space->tag.domain)];

	space->next_in_tag = *bucket;
	*bucket = space;
	space->next = shadow->spaces;
	space->prev = &shadow->spaces;
	if (space->next)
		space->next->prev = &space->next;
	shadow->spaces = space;
}

static void unlink_space(struct sn_shadow *shadow, struct snest_space *space)
{
	struct snest_space **at = &shadow->tag[sn_tag_bucket(space->tag.domain)];

	while (*at != space)
		at = &(*at)->next_in_tag;
	*at = space->next_in_tag;
	*space->prev = space->next;
	if (space->next)
		space->next->prev = space->prev;
}

static int space_new(struct snest_vm *vm, const struct snest_space_config *config,
                     struct snest_space **out)
{
	size_t copy = config->count * sizeof(*config->stages);
	struct snest_space *space = sn_vm_alloc(vm, sizeof(*space));
	int ret = -ENOMEM;

	if (!space)
		return -ENOMEM;
	if (copy) {
		space->stage_copy = sn_vm_alloc(vm, copy);
		if (!space->stage_copy)
			goto fail;
		memcpy(space->stage_copy, config->stages, copy);
	}
	ret = sn_stages_prepare(&space->stages, vm, config->stages, config->count);
	if (ret)
		goto fail;
	space->vm = vm;
	space->flags = config->flags;
	space->tag = config->tag;
	space->guest_stages = config->count;
	space->references = 1;
	for (unsigned i = 0; i < space->stages.count; i++) {
		if (looks_at_privilege(space->stages.pt[i].format))
			space->privilege_mask = SNEST_PRIVILEGED;
	}
	sn_tree_init(&space->tree[0]);
	sn_tree_init(&space->tree[1]);
	sn_graveyard_init(&space->graveyard, vm);
	space->sync_entries_max =
		config->sync_entries_max ? config->sync_entries_max : SYNC_ENTRIES_MAX;
	if (config->table_bytes_max)
		space->graveyard.linked_max = config->table_bytes_max / 4096;
	sn_dirty_init(&space->dirty, vm);
	pthread_mutex_init(&space->lock, NULL);
	*out = space;
	return 0;
fail:
	sn_vm_free(vm, space->stage_copy, copy);
	sn_vm_free(vm, space, sizeof(*space));
	return ret;
}

int snest_space_get(struct snest_vm *vm, const struct snest_space_config *user,
                    struct snest_space **out)
{
	struct sn_shadow *shadow = sn_shadow(vm);
	struct snest_space_config config;
	struct snest_space *space;
	int ret = SN_STRUCT_IN(&config, user);

	if (ret)
		return ret;
	if (!shadow)
		return -ENOMEM;
	if (config.count > SNEST_MAX_STAGES || (config.count && !config.stages))
		return -EINVAL;
	if (config.flags & ~SNEST_SPACE_ANNOUNCED)
		return -EOPNOTSUPP;

	pthread_mutex_lock(&shadow->lock);
	space = find(shadow, &config);
	if (space) {
		space->references++;
	} else {
		ret = space_new(vm, &config, &space);
		if (!ret) {
			space->log_dirty = shadow->log_dirty;
			link_space(shadow, space);
		}
	}
	pthread_mutex_unlock(&shadow->lock);
	if (!ret)
		*out = space;
	return ret;
}

bool sn_space_ref(struct snest_space *space)
{
	bool alive;

	pthread_mutex_lock(&space->vm->shadow->lock);
	alive = space->references != 0;
	space->references += alive;
	pthread_mutex_unlock(&space->vm->shadow->lock);
	return alive;
}

static void space_freed(struct sn_reclaim_node *node)
{
	struct snest_space *space = (void *)((char *)node - offsetof(struct snest_space, node));
	struct snest_vm *vm = space->vm;
	bool busy;

	/* Nobody reads any more; what readers filled on their way out goes too. */
	sn_tree_detach(&space->tree[0], &space->graveyard);
	sn_tree_detach(&space->tree[1], &space->graveyard);
	/* The tables go first, in bounded steps on this same thread. */
	pthread_mutex_lock(&space->graveyard.lock);
	busy = space->graveyard.queued;
	pthread_mutex_unlock(&space->graveyard.lock);
	if (busy) {
		sn_reclaim_defer(&vm->reclaim, &space->node, space_freed);
		return;
	}
	sn_dirty_fini(&space->dirty);
	pthread_mutex_destroy(&space->graveyard.lock);
	pthread_mutex_destroy(&space->lock);
	sn_vm_free(vm, space->stage_copy, space->guest_stages * sizeof(*space->stage_copy));
	sn_vm_free(vm, space, sizeof(*space));
}

void snest_space_put(struct snest_space *space)
{
	struct sn_shadow *shadow;
	bool last;

	if (!space)
		return;
	shadow = space->vm->shadow;
	pthread_mutex_lock(&shadow->lock);
	last = --space->references == 0;
	pthread_mutex_unlock(&shadow->lock);
	if (!last)
		return;
	/* Changes of memory still reach it until nothing of it is left, in the sink above all. */
	if (space->mirror || space->observer)
		snest_space_unmirror(space);
	pthread_mutex_lock(&space->lock);
	sn_space_note(space, 0, UINT64_MAX);
	sn_tree_detach(&space->tree[0], &space->graveyard);
	sn_tree_detach(&space->tree[1], &space->graveyard);
	pthread_mutex_unlock(&space->lock);
	pthread_mutex_lock(&shadow->lock);
	unlink_space(shadow, space);
	pthread_mutex_unlock(&shadow->lock);
	sn_shadow_retire(shadow, space);
	sn_reclaim_defer(&space->vm->reclaim, &space->node, space_freed);
}
