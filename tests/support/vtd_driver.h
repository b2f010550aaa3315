/* SPDX-License-Identifier: MIT */
/*
 * A guest driver for tests of the VT-d front end: its tables, its commands as
 * Linux and FreeBSD give them, and a model of an IOTLB that never forgets by
 * itself. For tests only; include after cmocka.h.
 *
 * The model keeps, for each page of each domain, the value in the tables and
 * every older value that no completed command has covered. An answer is right
 * if it is one of these; after a covering command only the newest is left.
 */
#ifndef VTD_DRIVER_H
#define VTD_DRIVER_H

#include "support/vtd_guest.h"

#define PAGES 2048u /* of IOVA space in use */
#define DOMAINS 3u
#define DEVICES 4u
#define OLDER 12u /* values of one page between two commands */
#define OPERATIONS 5000u
#define ABSENT 0ull
#define MAMV 18u

static const uint32_t rids[DEVICES] = {0x18, 0x1a, 0x100, 0x1f9};

enum mode {
	LEGACY,
	SECOND,
	FIRST,
	NESTED
};

struct config {
	const char *name;
	uint64_t cap, ecap;
	enum mode mode;
	bool lazy;      /* Linux: unmaps are flushed together, later */
	bool registers; /* FreeBSD: no queue */
	uint32_t flags;
	bool mirror; /* the first device has a sink */
};

struct page {
	uint64_t now;          /* GPA and rights, ABSENT */
	uint64_t older[OLDER]; /* still legal */
	unsigned count;
};

struct driver {
	struct vtd_guest g;
	const struct config *config;
	bool cm;
	uint64_t root[DOMAINS]; /* of the tables that map IOVAs */
	uint64_t second;        /* NESTED: under all of them, one to one */
	struct page page[DOMAINS][PAGES];
	int attached[DEVICES];                /* domain, -1: none */
	unsigned deferred[DOMAINS];           /* unmaps not yet flushed */
	uint64_t free_table[64], freeing[64]; /* table pages: free, and free after the next flush */
	unsigned free_count, freeing_count;
	uint32_t sequence;
	unsigned commands, checks, stale;
	uint64_t sink[PAGES]; /* what the first device's sink holds: GPA and rights */
	unsigned sink_ops;
};

static inline uint64_t rnd(struct driver *d, uint64_t below)
{
	return image_random(&d->g.image) % below;
}

static inline uint32_t did_of(unsigned domain)
{
	return 10 + domain;
}

/* ---- The model ---------------------------------------------------------------------- */

static inline void model_set(struct driver *d, unsigned domain, unsigned page, uint64_t value)
{
	struct page *p = &d->page[domain][page];

	assert_true(p->count < OLDER);
	p->older[p->count++] = p->now;
	p->now = value;
}

static inline void model_flush(struct driver *d, unsigned domain, unsigned first, unsigned last)
{
	for (unsigned i = first; i <= last && i < PAGES; i++)
		d->page[domain][i].count = 0;
}

static inline uint64_t answer(uint64_t value, uint32_t right)
{
	return value & right ? value & ~0xfffull : UINT64_MAX;
}

/* Asks for one page of one device and compares with the model. */
static inline void check_page(struct driver *d, unsigned device, unsigned page)
{
	uint32_t right = rnd(d, 2) ? SNEST_WRITE : SNEST_READ;
	uint64_t got = g_dma(&d->g, rids[device], page * 4096ull, right);
	int domain = d->attached[device];
	const struct page *p;

	d->checks++;
	if (domain < 0) {
		assert_int_equal(got, UINT64_MAX);
		return;
	}
	p = &d->page[domain][page];
	if (got == answer(p->now, right))
		return;
	for (unsigned i = 0; i < p->count; i++) {
		if (got == answer(p->older[i], right)) {
			d->stale++;
			return;
		}
	}
	fail_msg("%s: device %x page %x: got %llx, tables say %llx", d->config->name, rids[device],
	         page, (unsigned long long)got, (unsigned long long)p->now);
}

/* Devices use pages of the range, so that there is something cached to go stale. */
static inline void warm(struct driver *d, unsigned domain, unsigned first, unsigned count)
{
	for (unsigned i = 0; i < DEVICES; i++) {
		for (unsigned n = 0; d->attached[i] == (int)domain && n < 3; n++)
			check_page(d, i, (unsigned)(first + rnd(d, count)) % PAGES);
	}
}

static inline void check_some(struct driver *d, unsigned first, unsigned count)
{
	for (unsigned i = 0; i < 6; i++)
		check_page(d, (unsigned)rnd(d, DEVICES),
		           i < 4 ? (unsigned)(first + rnd(d, count)) % PAGES
		                 : (unsigned)rnd(d, PAGES));
}

/* ---- The sink ------------------------------------------------------------------------ */

static inline int apply(void *opaque, const struct snest_sink_op *ops, size_t count, size_t *done)
{
	struct driver *d = opaque;

	for (size_t i = 0; i < count; i++) {
		assert_true(ops[i].last >> 12 < PAGES);
		for (uint64_t page = ops[i].first >> 12; page <= ops[i].last >> 12; page++) {
			/* Every map is new, every unmap takes something away. */
			assert_int_equal(!!d->sink[page], !ops[i].map);
			d->sink[page] =
				ops[i].map ? (ops[i].host - G_HOST - ops[i].first + page * 4096) |
						     ops[i].rights
					   : 0;
		}
	}
	d->sink_ops += (unsigned)count;
	*done = count;
	return 0;
}

/* Between two operations of the driver nothing is under way: no older value is legal. */
static inline void check_sink(struct driver *d)
{
	int domain = d->attached[0];

	for (unsigned i = 0; i < PAGES; i++) {
		uint64_t want = domain < 0 ? 0 : d->page[domain][i].now;

		if (d->sink[i] != want)
			fail_msg("%s: page %x: the sink has %llx, tables say %llx", d->config->name,
			         i, (unsigned long long)d->sink[i], (unsigned long long)want);
	}
}

/* ---- Commands -------------------------------------------------------------------------- */

/* Puts descriptors and one wait, rings, and polls as drivers do. */
static inline void finish(struct driver *d)
{
	d->sequence++;
	g_put_wait(&d->g, 0, d->sequence, 0);
	g_ring(&d->g);
	g_poll_status(&d->g, 0, d->sequence);
	assert_int_equal(g_read(&d->g, R_FSTS, 4) & 0x70, 0);
}

static inline void iotlb(struct driver *d, unsigned granularity, uint32_t did, uint64_t address)
{
	d->commands++;
	if (!d->config->registers) {
		g_put(&d->g, D_IOTLB(granularity, did), address);
		return;
	}
	g_write(&d->g, R_IVA, 8, address);
	g_write(&d->g, R_IOTLB, 8,
	        1ull << 63 | (uint64_t)granularity << 60 | (uint64_t)did << 32 | 3ull << 48);
	g_poll(&d->g, R_IOTLB, 8, 1ull << 63, 0);
	assert_int_equal(g_read(&d->g, R_IOTLB, 8) >> 57 & 3, granularity);
}

static inline void context_cache(struct driver *d, uint32_t did, uint32_t rid)
{
	d->commands++;
	if (!d->config->registers) {
		g_put(&d->g, D_CC(3, did, rid, 0), 0);
		return;
	}
	g_write(&d->g, R_CCMD, 8, 1ull << 63 | 3ull << 61 | (uint64_t)rid << 16 | did);
	g_poll(&d->g, R_CCMD, 8, 1ull << 63, 0);
}

static inline void wait_for_commands(struct driver *d)
{
	if (!d->config->registers)
		finish(d);
}

static inline void flush_domain(struct driver *d, unsigned domain)
{
	if (d->config->mode == FIRST || d->config->mode == NESTED) {
		d->commands++;
		g_put(&d->g, D_PIOTLB(2, did_of(domain), 0), 0);
	} else {
		iotlb(d, 2, did_of(domain), 0);
	}
	wait_for_commands(d);
	model_flush(d, domain, 0, PAGES - 1);
	d->deferred[domain] = 0;
}

/* Linux rounds a range to one power of two around it. */
static inline void flush_pages(struct driver *d, unsigned domain, unsigned first, unsigned last,
                               bool leaf)
{
	unsigned am = 0;

	while (first >> am != last >> am)
		am++;
	if (d->config->mode == FIRST || d->config->mode == NESTED) {
		d->commands++;
		g_put(&d->g, D_PIOTLB(3, did_of(domain), 0),
		      (first >> am << am) * 4096ull | (leaf ? 0x40 : 0) | am);
	} else if (am > MAMV) {
		iotlb(d, 2, did_of(domain), 0);
	} else {
		iotlb(d, 3, did_of(domain), (first >> am << am) * 4096ull | (leaf ? 0x40 : 0) | am);
	}
	wait_for_commands(d);
	model_flush(d, domain, first >> am << am, (((first >> am) + 1) << am) - 1);
}

/* ---- Tables ------------------------------------------------------------------------------ */

static inline uint64_t table_new(struct driver *d)
{
	uint64_t at;

	if (!d->free_count)
		return g_table(&d->g);
	at = d->free_table[--d->free_count];
	for (unsigned i = 0; i < 4096; i += 8)
		image_put(&d->g.image, at + i, 0);
	return at;
}

/* The slot of the 2 MiB entry of a page. */
static inline uint64_t big_slot(struct driver *d, unsigned domain, unsigned page)
{
	return g_leaf_at(&d->g, d->root[domain], page / 512 * 0x200000ull, 21);
}

static inline bool first_stage(const struct driver *d)
{
	return d->config->mode == FIRST || d->config->mode == NESTED;
}

static inline uint64_t leaf_bits(const struct driver *d, uint64_t value)
{
	if (!first_stage(d))
		return value;
	/* P, U/S, A, D; R/W. The first stage knows no write-only pages. */
	return (value & ~0xfffull) | 0x65 | (value & 2);
}

static inline void write_small(struct driver *d, unsigned domain, unsigned page, uint64_t value)
{
	uint64_t slot = big_slot(d, domain, page), entry = image_get(&d->g.image, slot);

	if (!(entry & 3)) {
		entry = table_new(d) | (first_stage(d) ? 0x27 : 3);
		image_put(&d->g.image, slot, entry);
	}
	image_put(&d->g.image, (entry & 0xffffffffff000ull) + page % 512 * 8,
	          value ? leaf_bits(d, value) : 0);
}

#endif
