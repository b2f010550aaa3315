/* SPDX-License-Identifier: MIT */
/*
 * A guest driver against the VT-d front end: maps, unmaps, attaches and detaches
 * at random, announcing it as Linux and FreeBSD do, and checked by a model of
 * an IOTLB that never forgets by itself.
 *
 * The model keeps, for each page of each domain, the value in the tables and
 * every older value that no completed command has covered. An answer is right
 * if it is one of these; after a covering command only the newest is left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

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

static uint64_t rnd(struct driver *d, uint64_t below)
{
	return image_random(&d->g.image) % below;
}

static uint32_t did_of(unsigned domain)
{
	return 10 + domain;
}

/* ---- The model ---------------------------------------------------------------------- */

static void model_set(struct driver *d, unsigned domain, unsigned page, uint64_t value)
{
	struct page *p = &d->page[domain][page];

	assert_true(p->count < OLDER);
	p->older[p->count++] = p->now;
	p->now = value;
}

static void model_flush(struct driver *d, unsigned domain, unsigned first, unsigned last)
{
	for (unsigned i = first; i <= last && i < PAGES; i++)
		d->page[domain][i].count = 0;
}

static uint64_t answer(uint64_t value, uint32_t right)
{
	return value & right ? value & ~0xfffull : UINT64_MAX;
}

/* Asks for one page of one device and compares with the model. */
static void check_page(struct driver *d, unsigned device, unsigned page)
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
static void warm(struct driver *d, unsigned domain, unsigned first, unsigned count)
{
	for (unsigned i = 0; i < DEVICES; i++) {
		for (unsigned n = 0; d->attached[i] == (int)domain && n < 3; n++)
			check_page(d, i, (unsigned)(first + rnd(d, count)) % PAGES);
	}
}

static void check_some(struct driver *d, unsigned first, unsigned count)
{
	for (unsigned i = 0; i < 6; i++)
		check_page(d, (unsigned)rnd(d, DEVICES),
		           i < 4 ? (unsigned)(first + rnd(d, count)) % PAGES
		                 : (unsigned)rnd(d, PAGES));
}

/* ---- The sink ------------------------------------------------------------------------ */

static int apply(void *opaque, const struct snest_sink_op *ops, size_t count, size_t *done)
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
static void check_sink(struct driver *d)
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
static void finish(struct driver *d)
{
	d->sequence++;
	g_put_wait(&d->g, 0, d->sequence, 0);
	g_ring(&d->g);
	g_poll_status(&d->g, 0, d->sequence);
	assert_int_equal(g_read(&d->g, R_FSTS, 4) & 0x70, 0);
}

static void iotlb(struct driver *d, unsigned granularity, uint32_t did, uint64_t address)
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

static void context_cache(struct driver *d, uint32_t did, uint32_t rid)
{
	d->commands++;
	if (!d->config->registers) {
		g_put(&d->g, D_CC(3, did, rid, 0), 0);
		return;
	}
	g_write(&d->g, R_CCMD, 8, 1ull << 63 | 3ull << 61 | (uint64_t)rid << 16 | did);
	g_poll(&d->g, R_CCMD, 8, 1ull << 63, 0);
}

static void wait_for_commands(struct driver *d)
{
	if (!d->config->registers)
		finish(d);
}

static void flush_domain(struct driver *d, unsigned domain)
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
static void flush_pages(struct driver *d, unsigned domain, unsigned first, unsigned last, bool leaf)
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

static uint64_t table_new(struct driver *d)
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
static uint64_t big_slot(struct driver *d, unsigned domain, unsigned page)
{
	return g_leaf_at(&d->g, d->root[domain], page / 512 * 0x200000ull, 21);
}

static bool first_stage(const struct driver *d)
{
	return d->config->mode == FIRST || d->config->mode == NESTED;
}

static uint64_t leaf_bits(const struct driver *d, uint64_t value)
{
	if (!first_stage(d))
		return value;
	/* P, U/S, A, D; R/W. The first stage knows no write-only pages. */
	return (value & ~0xfffull) | 0x65 | (value & 2);
}

static void write_small(struct driver *d, unsigned domain, unsigned page, uint64_t value)
{
	uint64_t slot = big_slot(d, domain, page), entry = image_get(&d->g.image, slot);

	if (!(entry & 3)) {
		entry = table_new(d) | (first_stage(d) ? 0x27 : 3);
		image_put(&d->g.image, slot, entry);
	}
	image_put(&d->g.image, (entry & 0xffffffffff000ull) + page % 512 * 8,
	          value ? leaf_bits(d, value) : 0);
}

/* ---- What the driver does -------------------------------------------------------------------- */

static bool is_free(const struct driver *d, unsigned domain, unsigned first, unsigned count)
{
	for (unsigned i = first; i < first + count; i++) {
		if (d->page[domain][i].now)
			return false;
	}
	return true;
}

/* Without an announcement a value may pile up behind commands that never come. */
static void make_room(struct driver *d, unsigned domain, unsigned first, unsigned count)
{
	for (unsigned i = first; i < first + count; i++) {
		if (d->page[domain][i].count + 2 >= OLDER) {
			flush_domain(d, domain);
			return;
		}
	}
}

static uint64_t some_gpa(struct driver *d)
{
	return G_DATA + rnd(d, 256) * 4096;
}

static void map_announced(struct driver *d, unsigned domain, unsigned first, unsigned count)
{
	if (d->cm && !first_stage(d))
		flush_pages(d, domain, first, first + count - 1, false);
	/*
	 * Without an announcement an absent page that becomes present is
	 * visible at once: absence is never cached. What was there before an
	 * unmap that is still to be flushed stays legal.
	 */
	for (unsigned i = first; i < first + count; i++) {
		struct page *p = &d->page[domain][i];

		if (p->count && p->older[p->count - 1] == ABSENT && p->count == 1)
			p->count = 0;
	}
}

static void do_map(struct driver *d)
{
	unsigned domain = (unsigned)rnd(d, DOMAINS), first = (unsigned)rnd(d, PAGES);
	unsigned count = 1 + (unsigned)rnd(d, rnd(d, 4) ? 4 : 200);
	uint64_t rights = first_stage(d) ? 1 | rnd(d, 2) << 1 : 1 + rnd(d, 3);

	if (first + count > PAGES)
		count = PAGES - first;
	if (!is_free(d, domain, first, count))
		return;
	make_room(d, domain, first, count);
	warm(d, domain, first, count);
	for (unsigned i = first; i < first + count; i++) {
		uint64_t value = some_gpa(d) | rights;

		write_small(d, domain, i, value);
		model_set(d, domain, i, value);
	}
	warm(d, domain, first, count);
	map_announced(d, domain, first, count);
	check_some(d, first, count);
}

static void do_map_big(struct driver *d)
{
	unsigned domain = (unsigned)rnd(d, DOMAINS), first = (unsigned)rnd(d, PAGES / 512) * 512;
	uint64_t gpa = G_DATA, slot = big_slot(d, domain, first);
	uint64_t entry = image_get(&d->g.image, slot), value = gpa | 3;

	if (!is_free(d, domain, first, 512) || d->freeing_count == 64)
		return;
	make_room(d, domain, first, 512);
	/* The empty table is replaced by a leaf, and free once nobody can walk it. */
	image_put(&d->g.image, slot, leaf_bits(d, value) | 0x80);
	for (unsigned i = 0; i < 512; i++)
		model_set(d, domain, first + i, value + i * 4096ull);
	check_some(d, first, 512);
	if (entry & 3) {
		flush_pages(d, domain, first, first + 511, false);
		if (d->free_count < 64)
			d->free_table[d->free_count++] = entry & 0xffffffffff000ull;
	}
	map_announced(d, domain, first, 512);
	check_some(d, first, 512);
}

static void unmapped(struct driver *d, unsigned domain, unsigned first, unsigned last, bool leaf)
{
	if (d->config->lazy) {
		if (++d->deferred[domain] >= 64 || !rnd(d, 40))
			flush_domain(d, domain);
	} else {
		flush_pages(d, domain, first, last, leaf);
	}
	check_some(d, first, last - first + 1);
}

static void do_unmap(struct driver *d)
{
	unsigned domain = (unsigned)rnd(d, DOMAINS), first = (unsigned)rnd(d, PAGES);
	unsigned last;
	uint64_t slot, entry;

	for (unsigned n = 0; n < 64 && !d->page[domain][first].now; n++)
		first = (first + 1) % PAGES;
	last = first;
	slot = big_slot(d, domain, first);
	entry = image_get(&d->g.image, slot);

	if (entry & 0x80) {
		first = first / 512 * 512;
		last = first + 511;
		make_room(d, domain, first, 512);
		warm(d, domain, first, 512);
		image_put(&d->g.image, slot, 0);
		for (unsigned i = first; i <= last; i++)
			model_set(d, domain, i, ABSENT);
		check_some(d, first, 512);
		unmapped(d, domain, first, last, true);
		return;
	}
	while (first && d->page[domain][first - 1].now && first % 512)
		first--;
	while (last + 1 < PAGES && d->page[domain][last + 1].now && (last + 1) % 512)
		last++;
	if (!d->page[domain][first].now)
		return;
	if (rnd(d, 2))
		last = first + (unsigned)rnd(d, last - first + 1);
	make_room(d, domain, first, last - first + 1);
	warm(d, domain, first, last - first + 1);
	for (unsigned i = first; i <= last; i++) {
		if (!d->page[domain][i].now)
			continue;
		write_small(d, domain, i, 0);
		model_set(d, domain, i, ABSENT);
	}
	check_some(d, first, last - first + 1);
	unmapped(d, domain, first, last, true);
}

/* A live page gets another target; announced as an unmap is. */
static void do_replace(struct driver *d)
{
	unsigned domain = (unsigned)rnd(d, DOMAINS), page = (unsigned)rnd(d, PAGES);
	uint64_t value = some_gpa(d) | 3;

	for (unsigned n = 0; n < 64 && !d->page[domain][page].now; n++)
		page = (page + 1) % PAGES;
	if (!d->page[domain][page].now ||
	    (image_get(&d->g.image, big_slot(d, domain, page)) & 0x80))
		return;
	make_room(d, domain, page, 1);
	warm(d, domain, page, 1);
	write_small(d, domain, page, value);
	model_set(d, domain, page, value);
	check_some(d, page, 1);
	flush_pages(d, domain, page, page, true);
	check_some(d, page, 1);
}

static void write_config(struct driver *d, unsigned device, int domain)
{
	static const unsigned pgtt[] = {
		[SECOND] = PGTT_SECOND,
		[FIRST] = PGTT_FIRST,
		[NESTED] = PGTT_NESTED,
	};
	uint32_t rid = rids[device];

	if (d->config->mode == LEGACY) {
		if (domain < 0)
			image_put(&d->g.image, g_context_at(&d->g, rid), 0);
		else
			g_context(&d->g, rid, did_of((unsigned)domain), d->root[domain]);
		return;
	}
	if (domain < 0) {
		image_put(&d->g.image, g_pasid_at(&d->g, rid, 0), 0);
		return;
	}
	g_pasid(&d->g, rid, 0, pgtt[d->config->mode], did_of((unsigned)domain),
	        first_stage(d) ? d->root[domain] : 0,
	        d->config->mode == SECOND   ? d->root[domain]
	        : d->config->mode == NESTED ? d->second
	                                    : 0);
}

/* Commands of a configuration change; did: what the cache may hold. */
static void announce_config(struct driver *d, unsigned device, uint32_t did, uint32_t new_did)
{
	if (d->config->mode == LEGACY) {
		context_cache(d, did, rids[device]);
		iotlb(d, 2, new_did, 0);
	} else {
		d->commands += 2;
		g_put(&d->g, D_PC(1, new_did, 0), 0);
		g_put(&d->g, D_PIOTLB(2, new_did, 0), 0);
		iotlb(d, 2, new_did, 0);
	}
	wait_for_commands(d);
}

static void do_attach(struct driver *d)
{
	unsigned device = (unsigned)rnd(d, DEVICES), domain = (unsigned)rnd(d, DOMAINS);
	int old = d->attached[device];

	if (old < 0) {
		write_config(d, device, (int)domain);
		d->attached[device] = (int)domain;
		/* Absence is only remembered, and announced, in caching mode: with DID 0. */
		if (d->cm) {
			announce_config(d, device, 0, did_of(domain));
			model_flush(d, domain, 0, PAGES - 1);
		}
	} else if (!rnd(d, 4)) {
		write_config(d, device, -1);
		announce_config(d, device, did_of((unsigned)old), did_of((unsigned)old));
		model_flush(d, (unsigned)old, 0, PAGES - 1);
		d->attached[device] = -1;
	}
	check_some(d, 0, PAGES);
}

/* Under nesting the second stage changes too: the page tables and data stay where they are. */
static void do_second_stage(struct driver *d)
{
	uint64_t gpa = G_DATA + rnd(d, 256) * 4096;

	if (d->config->mode != NESTED)
		return;
	image_put(&d->g.image, g_leaf_at(&d->g, d->second, gpa, 12), gpa | 3);
	for (unsigned i = 0; i < DOMAINS; i++)
		iotlb(d, 3, did_of(i), gpa);
	finish(d);
	check_some(d, 0, PAGES);
}

static void start(struct driver *d, const struct config *config)
{
	memset(d, 0, sizeof(*d));
	d->config = config;
	d->cm = config->cap & 0x80;
	g_create(&d->g, config->cap, config->ecap, config->flags);
	for (unsigned i = 0; i < DOMAINS; i++) {
		d->root[i] = g_table(&d->g);
		/* The levels above 2 MiB exist from the start. */
		g_map_bits(&d->g, d->root[i], 0, G_DATA, 21, 0, first_stage(d) ? 0x27 : 3);
		image_put(&d->g.image, big_slot(d, i, 0), 0);
	}
	if (config->mode == NESTED) {
		d->second = g_table(&d->g);
		for (uint64_t gpa = 0; gpa < G_DATA + 0x200000; gpa += 4096)
			g_map(&d->g, d->second, gpa, gpa, 12, 3);
	}
	for (unsigned i = 0; i < DEVICES; i++) {
		d->attached[i] = -1;
		if (config->mode != LEGACY)
			g_scalable_context(&d->g, rids[i], 0);
	}
	g_set_root(&d->g, G_ROOT | (config->mode == LEGACY ? 0 : 1 << 10));
	if (!config->registers)
		g_queue_on(&d->g, 0, config->mode != LEGACY);
	g_command(&d->g, TE, true);
	if (config->mirror) {
		struct snest_sink sink = {
			.size = sizeof(sink),
			.flags = SNEST_SINK_CAN_SPLIT,
			.opaque = d,
			.apply = apply,
		};

		assert_int_equal(snest_vtd_mirror(d->g.vtd, rids[0], SNEST_NO_PASID, &sink), 0);
	}
}

static const struct config configs[] = {
	{"linux legacy cm", G_CAP_CM, G_ECAP_ATS, LEGACY, false, false, 0, true},
	{"linux legacy cm sync", G_CAP_CM, G_ECAP, LEGACY, false, false, SNEST_VTD_SYNC, false},
	{"linux legacy strict", G_CAP_LAZY, G_ECAP, LEGACY, false, false, SNEST_VTD_SYNC, false},
	{"linux legacy lazy", G_CAP_LAZY, G_ECAP, LEGACY, true, false, 0, false},
	{"linux second stage cm", G_CAP_CM, G_ECAP_SS, SECOND, false, false, 0, true},
	{"linux second stage lazy", G_CAP_LAZY, G_ECAP_SS, SECOND, true, false, 0, false},
	{"linux first stage", G_CAP_FS, G_ECAP_FS, FIRST, false, false, 0, false},
	{"linux first stage lazy", G_CAP_FS, G_ECAP_FS, FIRST, true, false, 0, false},
	{"linux first stage cm", G_CAP_ALL, G_ECAP_ALL, FIRST, false, false, 0, false},
	{"linux nested", G_CAP_ALL, G_ECAP_ALL, NESTED, false, false, 0, false},
	{"freebsd cm", G_CAP_CM, G_ECAP, LEGACY, false, true, 0, true},
	{"freebsd", G_CAP_LAZY, G_ECAP, LEGACY, false, true, SNEST_VTD_SYNC, false},
};

static void random_driver_is_served_right(void **state)
{
	struct driver *d = malloc(sizeof(*d));

	(void)state;
	assert_non_null(d);
	for (unsigned c = 0; c < sizeof(configs) / sizeof(configs[0]); c++) {
		start(d, &configs[c]);
		for (unsigned i = 0; i < OPERATIONS; i++) {
			switch (rnd(d, 20)) {
			case 0:
				do_attach(d);
				break;
			case 1:
				do_map_big(d);
				break;
			case 2:
			case 3:
				do_replace(d);
				break;
			case 4:
				do_second_stage(d);
				break;
			case 5 ... 11:
				do_unmap(d);
				break;
			default:
				do_map(d);
			}
			if (configs[c].mirror)
				check_sink(d);
		}
		print_message("%s: %u commands, %u checks, %u stale and legal, %u sink ops\n",
		              configs[c].name, d->commands, d->checks, d->stale, d->sink_ops);
		g_destroy(&d->g);
	}
	free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_driver_is_served_right),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
