/* SPDX-License-Identifier: MIT */
/* A sink that keeps a copy. See sink.h. */
#include "support/sink.h"
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

/* Index of the first map that ends at or behind iova. */
static unsigned from(const struct sink *s, uint64_t iova)
{
	unsigned low = s->head, high = s->head + s->count;

	while (low < high) {
		unsigned middle = low + (high - low) / 2;

		if (s->map[middle].last < iova)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct sink_map *sink_find(const struct sink *s, uint64_t iova)
{
	unsigned i = from(s, iova);

	return i < s->head + s->count && s->map[i].first <= iova ? &s->map[i] : NULL;
}

static void insert(struct sink *s, unsigned at, struct sink_map map)
{
	assert_true(s->count < SINK_MAPS_MAX);
	if (s->head + s->count == SINK_MAPS_MAX) {
		memmove(&s->map[0], &s->map[s->head], s->count * sizeof(s->map[0]));
		at -= s->head;
		s->head = 0;
	}
	memmove(&s->map[at + 1], &s->map[at], (s->head + s->count - at) * sizeof(s->map[0]));
	s->map[at] = map;
	s->count++;
}

static int do_map(struct sink *s, const struct snest_sink_op *op)
{
	unsigned at = from(s, op->first);

	if (op->first > op->last || (op->first & 4095) || (op->last & 4095) != 4095 ||
	    (op->host & 4095) || !op->rights || (op->rights & ~(SNEST_READ | SNEST_WRITE)))
		fail_msg("map 0x%" PRIx64 " - 0x%" PRIx64 " to 0x%" PRIx64 ", rights %u", op->first,
		         op->last, op->host, op->rights);
	if (at < s->head + s->count && s->map[at].first <= op->last)
		fail_msg("map 0x%" PRIx64 " - 0x%" PRIx64 " over 0x%" PRIx64 " - 0x%" PRIx64,
		         op->first, op->last, s->map[at].first, s->map[at].last);
	if (s->count >= (s->limit ? s->limit : SINK_MAPS_MAX))
		return -ENOSPC;
	insert(s, at, (struct sink_map){op->first, op->last, op->host, op->rights});
	s->maps++;
	return 0;
}

/* Cuts the map that holds `at`, so that one begins there. */
static void split(struct sink *s, uint64_t at)
{
	unsigned i = from(s, at);
	struct sink_map *m = &s->map[i];
	struct sink_map lower = *m;

	if (i == s->head + s->count || m->first >= at)
		return;
	if (!(s->sink.flags & SNEST_SINK_CAN_SPLIT))
		fail_msg("unmap at 0x%" PRIx64 " cuts 0x%" PRIx64 " - 0x%" PRIx64, at, m->first,
		         m->last);
	lower.last = at - 1;
	m->host += at - m->first;
	m->first = at;
	insert(s, i, lower);
}

static int do_unmap(struct sink *s, const struct snest_sink_op *op)
{
	uint64_t at = op->first;
	unsigned i, n = 0;

	if (op->first > op->last || (op->first & 4095) || (op->last & 4095) != 4095)
		fail_msg("unmap 0x%" PRIx64 " - 0x%" PRIx64, op->first, op->last);
	split(s, op->first);
	if (op->last != UINT64_MAX)
		split(s, op->last + 1);
	i = from(s, op->first);
	while (i + n < s->head + s->count && s->map[i + n].first <= op->last) {
		if (s->map[i + n].first != at)
			break;
		at = s->map[i + n].last + 1;
		if (s->unmapped_count < SINK_MAPS_MAX)
			s->unmapped[s->unmapped_count++] = s->map[i + n];
		n++;
	}
	if (at != op->last + 1)
		fail_msg("unmap 0x%" PRIx64 " - 0x%" PRIx64 ": nothing at 0x%" PRIx64, op->first,
		         op->last, at);
	/* Everything is often unmapped from the front. */
	if (i == s->head)
		s->head += n;
	else
		memmove(&s->map[i], &s->map[i + n],
		        (s->head + s->count - i - n) * sizeof(s->map[0]));
	s->count -= n;
	s->unmaps++;
	s->unmapped_bytes += op->last - op->first + 1;
	n = 0;
	for (i = 0; i < s->refused_count; i++) {
		if (s->refused[i].last < op->first || s->refused[i].first > op->last)
			s->refused[n++] = s->refused[i];
	}
	s->refused_count = n;
	return 0;
}

static int refuse(struct sink *s, const struct snest_sink_op *op)
{
	s->failures++;
	s->fail_in = s->fail_every;
	if (!op->map && s->refused_count < SINK_REFUSED_MAX)
		s->refused[s->refused_count++] = (struct sink_map){op->first, op->last, 0, 0};
	return s->fail_with;
}

static int apply(void *opaque, const struct snest_sink_op *ops, size_t count, size_t *done)
{
	struct sink *s = opaque;

	s->calls++;
	assert_true(count > 0);
	for (*done = 0; *done < count; (*done)++) {
		const struct snest_sink_op *op = &ops[*done];
		int ret;

		if (s->fail_in && --s->fail_in == 0)
			return refuse(s, op);
		ret = op->map ? do_map(s, op) : do_unmap(s, op);
		if (ret)
			return ret;
	}
	return 0;
}

static void failed(void *opaque, uint64_t first, uint64_t last, int error)
{
	struct sink *s = opaque;

	assert_true(first <= last && error < 0);
	s->told++;
}

void sink_init(struct sink *s, uint32_t flags)
{
	memset(s, 0, sizeof(*s));
	s->sink = (struct snest_sink){
		.size = sizeof(s->sink),
		.flags = flags,
		.opaque = s,
		.apply = apply,
		.failed = failed,
	};
	s->fail_with = -EIO;
}

void sink_copy(struct sink *to, const struct sink *from_sink)
{
	to->sink = from_sink->sink;
	to->head = 0;
	to->count = from_sink->count;
	memcpy(to->map, &from_sink->map[from_sink->head], to->count * sizeof(to->map[0]));
}

void sink_reset(struct sink *s)
{
	s->calls = s->maps = s->unmaps = s->failures = s->told = 0;
	s->unmapped_bytes = 0;
	s->unmapped_count = 0;
}

uint64_t sink_bytes(const struct sink *s)
{
	uint64_t bytes = 0;

	for (unsigned i = s->head; i < s->head + s->count; i++)
		bytes += s->map[i].last - s->map[i].first + 1;
	return bytes;
}
