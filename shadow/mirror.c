/* SPDX-License-Identifier: MIT */
/*
 * Attaching sinks to spaces, and observers, which only hear what goes.
 */
#include <errno.h>
#include "core/extensible.h"
#include "core/probe.h"
#include "shadow/mirror.h"
#include "shadow/track.h"

int sn_mirror_observe(struct snest_space *space, uint64_t first, uint64_t last)
{
	struct snest_sink_op op = {.map = 0, .first = first, .last = last};
	struct sn_mirror *m = space->observer;
	size_t done = 0;
	int ret = m->sink.apply(m->sink.opaque, &op, 1, &done);

	SN_PROBE4(sink, space, 1u, done, ret);
	if (!ret && done && first == 0 && last == UINT64_MAX)
		space->unremembered = 0;
	space->stats.sink_batches++;
	space->stats.sink_unmaps++;
	space->stats.sink_errors += ret != 0;
	return ret;
}

/* Fills the sink for the first time. Under the lock. */
static int populate(struct snest_space *space, struct sn_mirror *mirror, struct sn_track *track)
{
	int ret;

	/* From here on the shadow is what the sink holds, so it starts empty. */
	__atomic_store_n(&space->mirror, mirror, __ATOMIC_RELAXED);
	space->track = track;
	sn_space_note(space, 0, UINT64_MAX);
	sn_tree_detach(&space->tree[0], &space->graveyard);
	sn_tree_detach(&space->tree[1], &space->graveyard);
	ret = sn_mirror_sync(space, 0, UINT64_MAX);
	sn_mirror_watch_same(space, !ret);
	if (ret) {
		sn_mirror_forget_host(space, 0, UINT64_MAX);
		__atomic_store_n(&space->mirror, NULL, __ATOMIC_RELAXED);
		space->track = NULL;
		sn_tree_detach(&space->tree[0], &space->graveyard);
	}
	return ret;
}

int snest_space_mirror(struct snest_space *space, const struct snest_sink *user)
{
	struct sn_track *track = NULL;
	struct snest_sink sink;
	struct sn_mirror *mirror;
	int ret = SN_STRUCT_IN(&sink, user);

	if (ret)
		return ret;
	if (!sink.apply || sink.reserved ||
	    (sink.flags & ~(SNEST_SINK_CAN_SPLIT | SNEST_SINK_UNMAP_ONLY)))
		return -EINVAL;
	mirror = sn_vm_alloc(space->vm, sizeof(*mirror));
	if (!mirror)
		return -ENOMEM;
	mirror->sink = sink;
	/* What a guest does not announce has to be seen by write tracking. */
	if (!(space->flags & SNEST_SPACE_ANNOUNCED) && !(sink.flags & SNEST_SINK_UNMAP_ONLY)) {
		ret = sn_track_begin(space, &track);
		if (!ret && !track)
			ret = -EOPNOTSUPP;
	}
	if (!ret) {
		pthread_mutex_lock(&space->lock);
		if (space->mirror || space->observer)
			ret = -EBUSY;
		else if (sink.flags & SNEST_SINK_UNMAP_ONLY)
			space->observer = mirror;
		else
			ret = populate(space, mirror, track);
		pthread_mutex_unlock(&space->lock);
	}
	if (ret) {
		sn_track_end(track);
		sn_vm_free(space->vm, mirror, sizeof(*mirror));
	}
	return ret;
}

int snest_space_unmirror(struct snest_space *space)
{
	struct sn_mirror *mirror;
	struct sn_track *track;
	int ret = 0;

	pthread_mutex_lock(&space->lock);
	mirror = space->mirror ? space->mirror : space->observer;
	track = space->track;
	sn_mirror_watch_same(space, false);
	if (space->mirror) {
		sn_mirror_forget_host(space, 0, UINT64_MAX);
		ret = mirror->error;
		__atomic_store_n(&space->mirror, NULL, __ATOMIC_RELAXED);
		space->track = NULL;
		sn_space_note(space, 0, UINT64_MAX);
		sn_tree_detach(&space->tree[0], &space->graveyard);
	}
	space->observer = NULL;
	pthread_mutex_unlock(&space->lock);
	if (!mirror)
		return -ENOENT;
	/* Nothing is mapped through these pages any more, so their protection may go now. */
	sn_track_end(track);
	sn_vm_free(space->vm, mirror, sizeof(*mirror));
	return ret;
}
