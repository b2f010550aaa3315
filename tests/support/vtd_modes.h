/* SPDX-License-Identifier: MIT */
/*
 * A guest of vtd_guest.h with one device and one page, in any of the ways that
 * VT-d translates, for tests that break or change one thing of it. For tests
 * only; include after cmocka.h.
 */
#ifndef VTD_MODES_H
#define VTD_MODES_H

#include "support/vtd_guest.h"

#define RID 0x118u
#define DID 7u
#define PASID 0x45u
#define IOVA 0x5000ull
#define NO SNEST_NO_PASID
#define R SNEST_READ
#define W SNEST_WRITE
#define P SNEST_PRIVILEGED
#define X SNEST_EXEC

struct guest {
	struct vtd_guest g;
	uint64_t first, second;
	uint64_t first_leaf, second_leaf;
	uint64_t rtaddr;
};

/* ---- Where things lie --------------------------------------------------------- */

static inline uint64_t root_at(void)
{
	return G_ROOT + (RID >> 8) * 16;
}

static inline uint64_t scalable_at(struct guest *t)
{
	return g_context_table(&t->g, RID, true) + (RID & 0x7f) * 32;
}

static inline uint64_t directory_at(struct guest *t, uint32_t pasid)
{
	return (image_get(&t->g.image, scalable_at(t)) & ~0xfffull) + (pasid >> 6) * 8;
}

static inline void change(struct guest *t, uint64_t at, uint64_t clear, uint64_t set)
{
	image_put(&t->g.image, at, (image_get(&t->g.image, at) & ~clear) | set);
}

static inline uint64_t legacy_at(struct guest *t)
{
	return g_context_at(&t->g, RID);
}

/* ---- Ways to translate ------------------------------------------------------------------------ */

enum mode {
	LEGACY,
	FIRST,
	SECOND,
	NESTED,
	PASS
};

/* One to one, so that nested first-stage tables are where they are. */
static inline void map_tables(struct guest *t)
{
	for (uint64_t gpa = G_TABLES; gpa < G_TABLES + 0x30000; gpa += 4096)
		g_map(&t->g, t->second, gpa, gpa, 12, 3);
}

static inline void start_with(struct guest *t, enum mode mode, uint64_t ecap)
{
	memset(t, 0, sizeof(*t));
	g_create(&t->g, G_CAP_ALL | 3ull << 40, ecap, SNEST_VTD_SYNC);
	t->first = g_table(&t->g);
	t->second = g_table(&t->g);
	if (mode == LEGACY) {
		g_context(&t->g, RID, DID, t->second);
		t->rtaddr = G_ROOT;
	} else {
		static const unsigned pgtt[] = {
			[FIRST] = PGTT_FIRST,
			[SECOND] = PGTT_SECOND,
			[NESTED] = PGTT_NESTED,
			[PASS] = PGTT_PASS,
		};

		g_scalable_context(&t->g, RID, PASID);
		g_pasid(&t->g, RID, PASID, pgtt[mode], DID,
		        mode == FIRST || mode == NESTED ? t->first : 0,
		        mode == SECOND || mode == NESTED ? t->second : 0);
		t->rtaddr = G_ROOT | 1 << 10;
	}
	if (mode == NESTED) {
		map_tables(t);
		g_map_first(&t->g, t->first, IOVA, 0x10000000, 12, true);
		g_map(&t->g, t->second, 0x10000000, G_DATA, 12, 3);
		t->second_leaf = g_leaf_at(&t->g, t->second, 0x10000000, 12);
	} else {
		g_map_first(&t->g, t->first, IOVA, G_DATA, 12, true);
		g_map(&t->g, t->second, IOVA, G_DATA, 12, 3);
		t->second_leaf = g_leaf_at(&t->g, t->second, IOVA, 12);
	}
	t->first_leaf = g_leaf_at(&t->g, t->first, IOVA, 12);
}

static inline void start(struct guest *t, enum mode mode)
{
	start_with(t, mode, G_ECAP_ALL);
}

static inline void go(struct guest *t)
{
	g_set_root(&t->g, t->rtaddr);
	g_command(&t->g, TE, true);
}

static inline uint64_t frcd(struct guest *t, unsigned i, unsigned word)
{
	return g_read(&t->g, R_FRCD + 16 * i + 8 * word, 8);
}

static inline void refuse(struct guest *t, uint64_t iova)
{
	assert_int_equal(g_request(&t->g, RID, NO, iova, R, NULL), UINT64_MAX);
}

#endif
