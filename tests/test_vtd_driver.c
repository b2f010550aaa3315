/* SPDX-License-Identifier: MIT */
/*
 * A guest driver against the VT-d front end: maps, unmaps, attaches and detaches
 * at random, announcing it as Linux and FreeBSD do, and checked by the model of
 * support/vtd_driver.h after every step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/vtd_driver.h"

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
