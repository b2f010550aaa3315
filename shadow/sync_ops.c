/* SPDX-License-Identifier: MIT */
/*
 * What a sync does to the shadow and to the sink: stores leaves; queues
 * operations, hands them over, and puts the shadow back where one is refused.
 */
#include <errno.h>
#include <inttypes.h>
#include "core/probe.h"
#include "shadow/sync.h"

/* ---- Leaves --------------------------------------------------------------- */

uint64_t *sn_sync_slot(struct sn_sync *s, uint64_t iova, unsigned shift, unsigned origin,
                       int *error)
{
	return sn_tree_slot(s->tree, &s->space->graveyard, iova, shift, origin, error);
}

/* A table that a leaf with these rights must not take the place of. */
static bool is_kept(uint64_t entry, unsigned shift, uint64_t rights)
{
	return (rights & SN_SH_HELD) && sn_sh_is_table(entry, shift);
}

int sn_sync_insert(struct sn_sync *s, uint64_t first, uint64_t last, uint64_t host, uint64_t rights,
                   unsigned origin, bool start)
{
	uint64_t at = first;

	if (origin > SN_SH_SHIFT0)
		sn_tree_note_origin(s->tree, origin);
	if (s->space->log_dirty && (rights & SNEST_WRITE))
		rights = (rights & ~(uint64_t)SNEST_WRITE) | SN_SH_LOGGED;
	for (;;) {
		unsigned shift = SN_SH_SHIFT0;
		uint64_t entry, *slot;
		int error;

		while (shift + SN_SH_BITS <= SN_SH_LEAF_MAX &&
		       !((at | host) & sn_mask(shift + SN_SH_BITS)) &&
		       last - at >= sn_mask(shift + SN_SH_BITS))
			shift += SN_SH_BITS;
		slot = sn_sync_slot(s, at, shift, origin, &error);
		/* What is put back during a visit goes where it was: the visit is in that table. */
		while (slot && is_kept(*slot, shift, rights)) {
			shift -= SN_SH_BITS;
			slot = sn_sync_slot(s, at, shift, origin, &error);
		}
		if (!slot) {
			if (at != first)
				sn_tree_clear(s->tree, first, at - 1);
			return error;
		}
		/* Neighbours of the same size need no descent of their own. */
		do {
			entry = host | rights | (start ? SN_SH_START : 0);
			if (origin > SN_SH_SHIFT0)
				entry |= (uint64_t)origin << SN_SH_ORIGIN_SHIFT;
			start = false;
			sn_tree_store(s->tree, &s->space->graveyard, slot, shift, entry);
			s->space->stats.leaves_published++;
			if (last - at == sn_mask(shift))
				return 0;
			at += sn_mask(shift) + 1;
			host += sn_mask(shift) + 1;
			slot++;
		} while (((uintptr_t)slot & 4095) && last - at >= sn_mask(shift) &&
		         !is_kept(*slot, shift, rights) &&
		         (shift == SN_SH_LEAF_MAX || last - at < sn_mask(shift + SN_SH_BITS) ||
		          ((at | host) & sn_mask(shift + SN_SH_BITS))));
	}
}

/* ---- Operations -------------------------------------------------------------- */

void sn_sync_report(struct sn_mirror *m)
{
	if (m->missing && m->sink.failed)
		m->sink.failed(m->sink.opaque, m->missing_first, m->missing_last, m->missing);
	m->missing = 0;
}

void sn_sync_failed(struct sn_sync *s, uint64_t first, uint64_t last, int error)
{
	struct sn_mirror *m = s->mirror;

	s->space->stats.sink_errors++;
	if (!m->error)
		m->error = error;
	/* One report for all that touches, or a hostile guest makes a million. */
	if (m->missing == error && first >= m->missing_first && first - 1 <= m->missing_last) {
		if (m->missing_last < last)
			m->missing_last = last;
		return;
	}
	sn_sync_report(m);
	m->missing = error;
	m->missing_first = first;
	m->missing_last = last;
}

/* An operation that the sink refused: the shadow goes back to what the sink holds. */
static void refused(struct sn_sync *s, const struct snest_sink_op *op, int error)
{
	struct sn_mirror *m = s->mirror;

	s->disturbed = true;
	sn_tree_clear(s->tree, op->first, op->last);
	if (op->map) {
		sn_sync_failed(s, op->first, op->last, error);
	} else {
		s->space->stats.sink_errors++;
		if (!m->error)
			m->error = error;
		sn_log_guest(s->space->vm, SNEST_LOG_WARNING,
		             "a sink refused to unmap IOVA 0x%" PRIx64 " - 0x%" PRIx64 ": error %d",
		             op->first, op->last, error);
		/* Still held by the sink; lookups do not use it, the next sync tries again. */
		sn_sync_insert(s, op->first, op->last, op->host, SN_SH_HELD, 0, true);
	}
}

void sn_sync_flush(struct sn_sync *s)
{
	struct sn_mirror *m = s->mirror;
	struct snest_space_stats *stats = &s->space->stats;
	uint64_t applied = 0, maps = 0, pages = 0;
	unsigned at = 0;

	while (at < m->count) {
		size_t done = 0;
		int ret = m->sink.apply(m->sink.opaque, &m->op[at], m->count - at, &done);

		SN_PROBE4(sink, s->space, m->count - at, done, ret);
		stats->sink_batches++;
		if (done > m->count - at)
			done = m->count - at;
		for (unsigned i = at; i < at + done; i++) {
			maps += m->op[i].map;
			if (m->op[i].map)
				pages += (m->op[i].last - m->op[i].first + 4096) >> 12;
		}
		applied += done;
		at += (unsigned)done;
		if (at < m->count) {
			refused(s, &m->op[at], ret ? ret : -EIO);
			at++;
		}
	}
	m->count = 0;
	stats->sink_maps += maps;
	stats->sink_unmaps += applied - maps;
	stats->sink_pages += pages;
}

void sn_sync_queue(struct sn_sync *s, bool map, uint64_t first, uint64_t last, uint64_t host,
                   uint64_t rights)
{
	struct sn_mirror *m = s->mirror;
	struct snest_sink_op *prev = m->count ? &m->op[m->count - 1] : NULL;

	/* Unmaps of neighbours are one: whole maps or, where they may be cut, parts of them. */
	if (!map && prev && !prev->map && prev->last + 1 == first && prev->rights == rights &&
	    prev->host + (first - prev->first) == host) {
		prev->last = last;
		return;
	}
	/* Not when the last place is taken: what is there may still grow. */
	if (m->count == SN_MIRROR_BATCH)
		sn_sync_flush(s);
	m->op[m->count++] = (struct snest_sink_op){
		.map = map,
		.rights = (uint32_t)rights & (SNEST_READ | SNEST_WRITE),
		.first = first,
		.last = last,
		.host = host,
	};
}
