/* SPDX-License-Identifier: MIT */
/*
 * VT-d faults: every reason made on purpose in real tables and read back from
 * the recording registers; the ring of records, overflow, the fault event,
 * suppression, the interrupt address range.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

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

static uint64_t root_at(void)
{
	return G_ROOT + (RID >> 8) * 16;
}

static uint64_t scalable_at(struct guest *t)
{
	return g_context_table(&t->g, RID, true) + (RID & 0x7f) * 32;
}

static uint64_t directory_at(struct guest *t, uint32_t pasid)
{
	return (image_get(&t->g.image, scalable_at(t)) & ~0xfffull) + (pasid >> 6) * 8;
}

static void change(struct guest *t, uint64_t at, uint64_t clear, uint64_t set)
{
	image_put(&t->g.image, at, (image_get(&t->g.image, at) & ~clear) | set);
}

/* ---- Legacy mode ----------------------------------------------------------------- */

static uint64_t legacy_at(struct guest *t)
{
	return g_context_at(&t->g, RID);
}

static void none(struct guest *t)
{
	(void)t;
}
static void no_root(struct guest *t)
{
	change(t, root_at(), 1, 0);
}
static void root_reserved(struct guest *t)
{
	change(t, root_at(), 0, 2);
}
static void root_reserved_high(struct guest *t)
{
	change(t, root_at() + 8, 0, 1);
}
static void root_too_wide(struct guest *t)
{
	change(t, root_at(), 0, 1ull << 48);
}
static void root_outside(struct guest *t)
{
	t->rtaddr = IMAGE_OUTSIDE;
}
static void context_outside(struct guest *t)
{
	change(t, root_at(), UINT64_MAX, IMAGE_OUTSIDE | 1);
}
static void no_context(struct guest *t)
{
	change(t, legacy_at(t), 1, 0);
}
static void context_aw(struct guest *t)
{
	change(t, legacy_at(t) + 8, 7, 3); /* 57 bits are not announced */
}
static void context_tt(struct guest *t)
{
	change(t, legacy_at(t), 0, 3 << 2);
}
static void context_reserved(struct guest *t)
{
	change(t, legacy_at(t), 0, 1 << 4);
}
static void second_root_outside(struct guest *t)
{
	change(t, legacy_at(t), ~0xfffull, IMAGE_OUTSIDE);
}
static void second_absent(struct guest *t)
{
	change(t, t->second_leaf, UINT64_MAX, 0);
}
static void second_read_only(struct guest *t)
{
	change(t, t->second_leaf, 2, 0);
}
static void second_write_only(struct guest *t)
{
	change(t, t->second_leaf, 1, 0);
}
static void second_table_outside(struct guest *t)
{
	change(t, t->second, ~0xfffull, IMAGE_OUTSIDE);
}
static void second_reserved(struct guest *t)
{
	change(t, t->second, 0, 1 << 7); /* PS in the top level */
}
static void second_reserved_and_absent(struct guest *t)
{
	change(t, t->second_leaf, 3, 1ull << 48);
}
static void second_to_interrupts(struct guest *t)
{
	change(t, t->second_leaf, ~0xfffull, 0xfee01000);
}

/* ---- Scalable mode ------------------------------------------------------------------ */

static void bad_mode(struct guest *t)
{
	t->rtaddr = G_ROOT | 2 << 10;
}
static void scalable_root_outside(struct guest *t)
{
	t->rtaddr = IMAGE_OUTSIDE | 1 << 10;
}
static void no_scalable(struct guest *t)
{
	change(t, scalable_at(t), 1, 0);
}
static void scalable_reserved(struct guest *t)
{
	change(t, scalable_at(t) + 16, 0, 1);
}
static void pre_without_dte(struct guest *t)
{
	change(t, scalable_at(t), 4, 0);
}
static void no_paside(struct guest *t)
{
	change(t, scalable_at(t), 8, 0);
}
static void rid_pasid_too_large(struct guest *t)
{
	change(t, scalable_at(t) + 8, UINT64_MAX, 0x8000);
}
static void directory_outside(struct guest *t)
{
	change(t, scalable_at(t), ~0xfffull, IMAGE_OUTSIDE);
}
static void no_directory(struct guest *t)
{
	change(t, directory_at(t, PASID), 1, 0);
}
static void directory_reserved(struct guest *t)
{
	change(t, directory_at(t, PASID), 0, 4);
}
static void pasids_outside(struct guest *t)
{
	change(t, directory_at(t, PASID), ~0xfffull, IMAGE_OUTSIDE);
}
static void no_pasid_entry(struct guest *t)
{
	change(t, g_pasid_at(&t->g, RID, PASID), 1, 0);
}
static void pasid_reserved(struct guest *t)
{
	change(t, g_pasid_at(&t->g, RID, PASID) + 24, 0, 1);
}
static void pgtt_reserved(struct guest *t)
{
	change(t, g_pasid_at(&t->g, RID, PASID), 7 << 6, 5 << 6);
}
static void no_supervisor(struct guest *t)
{
	change(t, g_pasid_at(&t->g, RID, PASID) + 16, 1, 0);
}
static void first_root_outside(struct guest *t)
{
	change(t, g_pasid_at(&t->g, RID, PASID) + 16, ~0xfffull, IMAGE_OUTSIDE);
}
static void first_table_outside(struct guest *t)
{
	change(t, t->first, ~0xfffull, IMAGE_OUTSIDE);
}
static void first_absent(struct guest *t)
{
	change(t, t->first_leaf, 1, 0);
}
static void first_reserved(struct guest *t)
{
	change(t, t->first, 0, 1 << 7);
}
static void first_supervisor(struct guest *t)
{
	change(t, t->first_leaf, 4, 0);
}
static void first_read_only(struct guest *t)
{
	change(t, t->first_leaf, 2, 0);
}
static void first_to_interrupts(struct guest *t)
{
	change(t, t->first_leaf, ~0xfffull, 0xfee01000);
}
static void pasid_second_root_outside(struct guest *t)
{
	change(t, g_pasid_at(&t->g, RID, PASID), ~0xfffull, IMAGE_OUTSIDE);
}

/* ---- All of them ------------------------------------------------------------------------ */

enum mode {
	LEGACY,
	FIRST,
	SECOND,
	NESTED,
	PASS
};

/* One to one, so that nested first-stage tables are where they are. */
static void map_tables(struct guest *t)
{
	for (uint64_t gpa = G_TABLES; gpa < G_TABLES + 0x30000; gpa += 4096)
		g_map(&t->g, t->second, gpa, gpa, 12, 3);
}

static void start(struct guest *t, enum mode mode)
{
	memset(t, 0, sizeof(*t));
	g_create(&t->g, G_CAP_ALL | 3ull << 40, G_ECAP_ALL, SNEST_VTD_SYNC);
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

/* The second-stage leaf of the page that holds the first stage's root, or leaf table. */
static uint64_t table_leaf(struct guest *t, uint64_t table)
{
	return g_leaf_at(&t->g, t->second, table & ~0xfffull, 12);
}
static void nested_root_unreadable(struct guest *t)
{
	change(t, table_leaf(t, t->first), 3, 0);
}
static void nested_entry_unreadable(struct guest *t)
{
	change(t, table_leaf(t, t->first_leaf), 3, 0);
}
static void nested_entry_read_only(struct guest *t)
{
	change(t, table_leaf(t, t->first_leaf), 2, 0);
	change(t, t->first_leaf, 0x60, 0); /* A and D would have to be set */
}

static const struct {
	unsigned code;
	enum mode mode;
	void (*change)(struct guest *t);
	uint32_t pasid;
	uint64_t iova;
	uint32_t access;
	enum {
		NO_FPD,
		YES,
		OPEN
	} qualified; /* OPEN: the public sources do not say */
} reasons[] = {
	{0x01, LEGACY, no_root, NO, IOVA, R, NO_FPD},
	{0x02, LEGACY, no_context, NO, IOVA, R, YES},
	{0x03, LEGACY, context_aw, NO, IOVA, R, YES},
	{0x03, LEGACY, context_tt, NO, IOVA, R, YES},
	{0x03, LEGACY, second_root_outside, NO, IOVA, R, YES},
	{0x04, LEGACY, none, NO, 1ull << 48, R, YES},
	{0x05, LEGACY, second_read_only, NO, IOVA, W, YES},
	{0x05, LEGACY, second_absent, NO, IOVA, W, YES},
	{0x06, LEGACY, second_write_only, NO, IOVA, R, YES},
	{0x06, LEGACY, second_absent, NO, IOVA, R, YES},
	{0x06, LEGACY, none, NO, IOVA + 0x1000, R, YES},
	/* The permission comes before reserved bits. */
	{0x06, LEGACY, second_reserved_and_absent, NO, IOVA, R, YES},
	{0x07, LEGACY, second_table_outside, NO, IOVA, R, YES},
	{0x08, LEGACY, root_outside, NO, IOVA, R, NO_FPD},
	{0x09, LEGACY, context_outside, NO, IOVA, R, NO_FPD},
	{0x0a, LEGACY, root_reserved, NO, IOVA, R, NO_FPD},
	{0x0a, LEGACY, root_reserved_high, NO, IOVA, R, NO_FPD},
	{0x0a, LEGACY, root_too_wide, NO, IOVA, R, NO_FPD},
	{0x0b, LEGACY, context_reserved, NO, IOVA, R, OPEN},
	{0x0c, LEGACY, second_reserved, NO, IOVA, R, YES},
	{0x0e, LEGACY, second_to_interrupts, NO, IOVA, W, YES},
	{0x30, FIRST, bad_mode, NO, IOVA, R, OPEN},
	{0x31, LEGACY, none, PASID, IOVA, R, OPEN},
	{0x38, FIRST, scalable_root_outside, PASID, IOVA, R, OPEN},
	{0x39, FIRST, no_root, PASID, IOVA, R, OPEN},
	{0x3a, FIRST, root_reserved, PASID, IOVA, R, OPEN},
	{0x40, FIRST, context_outside, PASID, IOVA, R, OPEN},
	{0x41, FIRST, no_scalable, PASID, IOVA, R, OPEN},
	{0x42, FIRST, scalable_reserved, PASID, IOVA, R, OPEN},
	{0x43, FIRST, pre_without_dte, PASID, IOVA, R, OPEN},
	{0x45, FIRST, no_paside, PASID, IOVA, R, OPEN},
	{0x46, FIRST, none, 0x8000, IOVA, R, OPEN},
	{0x48, FIRST, rid_pasid_too_large, NO, IOVA, R, OPEN},
	{0x50, FIRST, directory_outside, PASID, IOVA, R, NO_FPD},
	{0x51, FIRST, no_directory, PASID, IOVA, R, YES},
	{0x52, FIRST, directory_reserved, PASID, IOVA, R, OPEN},
	{0x58, FIRST, pasids_outside, PASID, IOVA, R, NO_FPD},
	{0x59, FIRST, no_pasid_entry, PASID, IOVA, R, YES},
	{0x5a, FIRST, pasid_reserved, PASID, IOVA, R, OPEN},
	{0x5b, FIRST, pgtt_reserved, PASID, IOVA, R, YES},
	{0x5d, FIRST, no_supervisor, PASID, IOVA, R | P, OPEN},
	{0x70, FIRST, first_table_outside, PASID, IOVA, R, YES},
	{0x71, FIRST, first_absent, PASID, IOVA, R, YES},
	{0x71, FIRST, first_absent, PASID, IOVA, W, YES},
	{0x72, FIRST, first_reserved, PASID, IOVA, R, YES},
	{0x73, FIRST, first_root_outside, PASID, IOVA, R, YES},
	{0x75, NESTED, nested_root_unreadable, PASID, IOVA, R, OPEN},
	{0x76, NESTED, nested_entry_unreadable, PASID, IOVA, R, OPEN},
	{0x77, NESTED, nested_entry_read_only, PASID, IOVA, W, OPEN},
	{0x78, SECOND, second_table_outside, PASID, IOVA, R, OPEN},
	{0x79, SECOND, second_absent, PASID, IOVA, R, OPEN},
	{0x79, SECOND, second_read_only, PASID, IOVA, W, OPEN},
	{0x79, NESTED, second_absent, PASID, IOVA, R, OPEN},
	{0x7a, SECOND, second_reserved, PASID, IOVA, R, OPEN},
	{0x7b, SECOND, pasid_second_root_outside, PASID, IOVA, R, OPEN},
	{0x80, FIRST, none, PASID, 1ull << 47, R, YES},
	{0x81, FIRST, first_supervisor, PASID, IOVA, R, YES},
	{0x85, FIRST, first_read_only, PASID, IOVA, W, YES},
	{0x87, FIRST, first_to_interrupts, PASID, IOVA, W, YES},
	{0x87, SECOND, second_to_interrupts, PASID, IOVA, W, YES},
	{0x87, PASS, none, PASID, 0xfee01000, W, YES},
};

#define REASONS (sizeof(reasons) / sizeof(reasons[0]))

static void go(struct guest *t)
{
	g_set_root(&t->g, t->rtaddr);
	g_command(&t->g, TE, true);
}

static uint64_t frcd(struct guest *t, unsigned i, unsigned word)
{
	return g_read(&t->g, R_FRCD + 16 * i + 8 * word, 8);
}

/* Before anything is broken, the request succeeds: the change is the cause. */
static void the_tables_work_before_they_are_broken(void **state)
{
	(void)state;
	for (enum mode mode = LEGACY; mode <= NESTED; mode++) {
		struct guest t;
		uint32_t pasid = mode == LEGACY ? NO : PASID;

		start(&t, mode);
		go(&t);
		assert_int_equal(g_request(&t.g, RID, pasid, IOVA + 4, R, NULL), G_DATA + 4);
		assert_int_equal(g_request(&t.g, RID, pasid, IOVA + 4, W, NULL), G_DATA + 4);
		assert_int_equal(g_read(&t.g, R_FSTS, 4), 0);
		g_destroy(&t.g);
	}
}

static void every_reason_is_recorded(void **state)
{
	(void)state;
	for (unsigned i = 0; i < REASONS; i++) {
		struct snest_fault fault;
		struct guest t;
		uint64_t high;

		start(&t, reasons[i].mode);
		reasons[i].change(&t);
		go(&t);
		assert_int_equal(g_request(&t.g, RID, reasons[i].pasid, reasons[i].iova | 0x123,
		                           reasons[i].access, &fault),
		                 UINT64_MAX);
		high = frcd(&t, 0, 1);
		if ((high >> 32 & 0xff) != reasons[i].code || !(high >> 63))
			fail_msg("%u: reason %xh is recorded as %llx", i, reasons[i].code,
			         (unsigned long long)high);
		assert_int_equal(fault.code, reasons[i].code);
		assert_int_equal(frcd(&t, 0, 0), reasons[i].iova);
		assert_int_equal(high & 0xffff, RID);
		assert_int_equal(high >> 62 & 1, !(reasons[i].access & W));
		assert_int_equal(high >> 28 & 1, 0);
		assert_int_equal(high >> 29 & 1, !!(reasons[i].access & P));
		assert_int_equal(high >> 31 & 1, reasons[i].pasid != NO);
		assert_int_equal(high >> 40 & 0xfffff,
		                 reasons[i].pasid == NO ? 0 : reasons[i].pasid);
		assert_int_equal(g_read(&t.g, R_FSTS, 4), 2);
		g_destroy(&t.g);
	}
}

/* FPD at every level that was read before the fault. */
static void fpd_suppresses_qualified_faults_only(void **state)
{
	(void)state;
	for (unsigned i = 0; i < REASONS; i++) {
		unsigned levels = reasons[i].mode == LEGACY ? 1 : 3;

		for (unsigned level = 0; level < levels; level++) {
			struct snest_fault fault;
			struct guest t;
			uint64_t at;

			/* The PASID entry is not read when the fault comes before it. */
			if ((level == 2 && reasons[i].code < 0x59) ||
			    (level == 1 && reasons[i].code < 0x51) || reasons[i].qualified == OPEN)
				continue;
			start(&t, reasons[i].mode);
			at = reasons[i].mode == LEGACY ? legacy_at(&t)
			     : level == 0              ? scalable_at(&t)
			     : level == 1              ? directory_at(&t, PASID)
			                               : g_pasid_at(&t.g, RID, PASID);
			change(&t, at, 0, 2);
			reasons[i].change(&t);
			go(&t);
			g_request(&t.g, RID, reasons[i].pasid, reasons[i].iova, reasons[i].access,
			          &fault);
			if (g_read(&t.g, R_FSTS, 4) != (reasons[i].qualified == YES ? 0 : 2))
				fail_msg("%u: reason %xh, FPD at level %u", i, reasons[i].code,
				         level);
			assert_int_equal(fault.code, reasons[i].code);
			g_destroy(&t.g);
		}
	}
}

static void plain_lookups_report_through_snest_vtd_fault(void **state)
{
	struct snest_translation tr;
	struct snest_device *device;
	struct snest_fault fault;
	struct guest t;

	(void)state;
	start(&t, LEGACY);
	second_read_only(&t);
	go(&t);
	assert_int_equal(snest_vtd_device(t.g.vtd, RID, &device), 0);
	snest_read_begin();
	assert_int_equal(snest_translate(device, IOVA, R, &tr, &fault), 0);
	assert_int_equal(snest_translate(device, IOVA, W, &tr, &fault), -EACCES);
	snest_read_end();
	assert_true(snest_vtd_fault(t.g.vtd, RID, NO, W, &fault));
	assert_int_equal(fault.code, 5);
	assert_int_equal(frcd(&t, 0, 1) >> 32 & 0xff, 5);
	g_destroy(&t.g);
}

/* ---- Records ------------------------------------------------------------------------------- */

static void refuse(struct guest *t, uint64_t iova)
{
	assert_int_equal(g_request(&t->g, RID, NO, iova, R, NULL), UINT64_MAX);
}

static void records_are_a_ring_that_overflows(void **state)
{
	struct guest t;

	(void)state;
	start(&t, LEGACY);
	go(&t);
	for (unsigned i = 0; i < 4; i++)
		refuse(&t, 0x100000 * (i + 1));
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(frcd(&t, i, 0), 0x100000 * (i + 1));
		assert_int_equal(frcd(&t, i, 1) >> 63, 1);
	}
	assert_int_equal(g_read(&t.g, R_FSTS, 4), 2);
	/* A fifth one overflows, and nothing is recorded until PFO is cleared. */
	refuse(&t, 0x500000);
	assert_int_equal(g_read(&t.g, R_FSTS, 4), 3);
	assert_int_equal(frcd(&t, 0, 0), 0x100000);
	g_write(&t.g, R_FRCD + 12, 4, 1u << 31);
	refuse(&t, 0x600000);
	assert_int_equal(frcd(&t, 0, 1) >> 63, 0);
	g_write(&t.g, R_FSTS, 4, 1);
	assert_int_equal(g_read(&t.g, R_FSTS, 4), 2);
	refuse(&t, 0x700000);
	assert_int_equal(frcd(&t, 0, 0), 0x700000);
	/* All cleared: PPF goes, and the next record says where it is. */
	for (unsigned i = 0; i < 4; i++)
		g_write(&t.g, R_FRCD + 16 * i + 8, 8, 1ull << 63);
	assert_int_equal(g_read(&t.g, R_FSTS, 4) & 0xff, 0);
	refuse(&t, 0x800000);
	assert_int_equal(g_read(&t.g, R_FSTS, 4), 1 << 8 | 2);
	assert_int_equal(frcd(&t, 1, 0), 0x800000);
	g_destroy(&t.g);
}

static void only_f_of_a_record_can_be_written(void **state)
{
	struct guest t;
	uint64_t high;

	(void)state;
	start(&t, LEGACY);
	go(&t);
	refuse(&t, 0x100000);
	high = frcd(&t, 0, 1);
	g_write(&t.g, R_FRCD, 8, 0);
	g_write(&t.g, R_FRCD, 8, UINT64_MAX);
	g_write(&t.g, R_FRCD + 8, 8, ~(1ull << 63));
	g_write(&t.g, R_FRCD + 8, 7, UINT64_MAX);
	assert_int_equal(frcd(&t, 0, 0), 0x100000);
	assert_int_equal(frcd(&t, 0, 1), high);
	g_write(&t.g, R_FRCD + 15, 1, 0x80);
	assert_int_equal(frcd(&t, 0, 1), high & ~(1ull << 63));
	g_destroy(&t.g);
}

static void fault_event_is_sent_once_until_all_is_cleared(void **state)
{
	struct guest t;

	(void)state;
	start(&t, LEGACY);
	go(&t);
	g_write(&t.g, R_FEDATA, 4, 0x99);
	g_write(&t.g, R_FEADDR, 4, 0xfee02003);
	refuse(&t, 0x100000);
	assert_int_equal(t.g.msis, 0);
	assert_int_equal(g_read(&t.g, R_FECTL, 4), IM | IP);
	/* One write over control and data: the data is in place before the interrupt. */
	g_write(&t.g, R_FECTL, 8, 0x5500000000);
	assert_int_equal(t.g.msis, 1);
	assert_int_equal(t.g.msi_address, 0xfee02000);
	assert_int_equal(t.g.msi_data, 0x55);
	refuse(&t, 0x200000);
	assert_int_equal(t.g.msis, 1);
	g_write(&t.g, R_FRCD + 12, 4, 1u << 31);
	refuse(&t, 0x300000);
	assert_int_equal(t.g.msis, 1);
	for (unsigned i = 0; i < 4; i++)
		g_write(&t.g, R_FRCD + 16 * i + 12, 4, 1u << 31);
	refuse(&t, 0x400000);
	assert_int_equal(t.g.msis, 2);
	/* Pending and cleared before it is unmasked: nothing is sent. */
	for (unsigned i = 0; i < 4; i++)
		g_write(&t.g, R_FRCD + 16 * i + 12, 4, 1u << 31);
	g_write(&t.g, R_FECTL, 4, IM);
	refuse(&t, 0x500000);
	assert_int_equal(g_read(&t.g, R_FECTL, 4), IM | IP);
	for (unsigned i = 0; i < 4; i++)
		g_write(&t.g, R_FRCD + 16 * i + 12, 4, 1u << 31);
	assert_int_equal(g_read(&t.g, R_FECTL, 4), IM);
	g_write(&t.g, R_FECTL, 4, 0);
	assert_int_equal(t.g.msis, 2);
	g_destroy(&t.g);
}

static void statistics_count_what_was_lost(void **state)
{
	struct snest_vtd_stats stats = {.size = sizeof(stats)};
	struct guest t;

	(void)state;
	start(&t, LEGACY);
	go(&t);
	for (unsigned i = 0; i < 10; i++)
		refuse(&t, 0x100000);
	assert_int_equal(snest_vtd_stats(t.g.vtd, &stats), 0);
	assert_int_equal(stats.faults, 10);
	assert_int_equal(stats.faults_recorded, 4);
	assert_int_equal(stats.faults_lost, 6);
	g_destroy(&t.g);
}

/* ---- The interrupt address range ----------------------------------------------------------- */

static void interrupt_range_without_pasid_is_never_translated(void **state)
{
	struct guest t;

	(void)state;
	start(&t, LEGACY);
	g_map(&t.g, t.second, 0xfee00000, G_DATA, 12, 3);
	go(&t);
	assert_int_equal(g_dma(&t.g, RID, 0xfee00004, W), 0xfee00004);
	assert_int_equal(g_dma(&t.g, RID, 0xfeefffff, W), 0xfeefffff);
	assert_int_equal(g_dma(&t.g, RID, 0xfee00004, R), UINT64_MAX);
	assert_int_equal(g_read(&t.g, R_FSTS, 4), 0);
	g_destroy(&t.g);
}

static void interrupt_range_with_pasid_is_translated(void **state)
{
	struct guest t;

	(void)state;
	start(&t, SECOND);
	g_map(&t.g, t.second, 0xfee00000, G_DATA, 12, 3);
	go(&t);
	assert_int_equal(g_request(&t.g, RID, PASID, 0xfee00004, R, NULL), G_DATA + 4);
	assert_int_equal(g_request(&t.g, RID, PASID, 0xfee00004, W, NULL), G_DATA + 4);
	g_destroy(&t.g);
}

static void targets_without_memory_are_not_faults(void **state)
{
	struct snest_translation tr;
	struct guest t;

	(void)state;
	start(&t, LEGACY);
	g_map(&t.g, t.second, 0x9000, IMAGE_OUTSIDE, 12, 3);
	go(&t);
	snest_read_begin();
	assert_int_equal(snest_vtd_translate(t.g.vtd, RID, NO, 0x9010, W, &tr, NULL), 0);
	assert_int_equal(tr.outcome, SNEST_WALK_GPA);
	assert_int_equal(tr.host, IMAGE_OUTSIDE + 0x10);
	snest_read_end();
	g_destroy(&t.g);
}

static void pass_through_is_as_wide_as_announced(void **state)
{
	struct guest t;

	(void)state;
	start(&t, LEGACY);
	change(&t, legacy_at(&t), UINT64_MAX, 1 | 2 << 2);
	go(&t);
	assert_int_equal(g_dma(&t.g, RID, G_DATA + 5, W), G_DATA + 5);
	assert_int_equal(g_dma(&t.g, RID, 1ull << 48, R), UINT64_MAX);
	assert_int_equal(frcd(&t, 0, 1) >> 32 & 0xff, 4);
	g_destroy(&t.g);
}

static void privileged_request_on_a_shared_binding_is_checked(void **state)
{
	struct guest t;

	(void)state;
	start(&t, FIRST);
	no_supervisor(&t);
	go(&t);
	/* The binding exists; the next request needs SRE all the same. */
	assert_int_equal(g_request(&t.g, RID, PASID, IOVA, R, NULL), G_DATA);
	assert_int_equal(g_request(&t.g, RID, PASID, IOVA, R | P, NULL), UINT64_MAX);
	assert_int_equal(frcd(&t, 0, 1) >> 32 & 0xff, 0x5d);
	g_destroy(&t.g);
}

static void abort_mode_refuses_without_a_record(void **state)
{
	struct guest t;

	(void)state;
	start(&t, FIRST);
	t.rtaddr = G_ROOT | 3 << 10;
	go(&t);
	assert_int_equal(g_dma(&t.g, RID, IOVA, R), UINT64_MAX);
	assert_int_equal(g_read(&t.g, R_FSTS, 4), 0);
	g_destroy(&t.g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_tables_work_before_they_are_broken),
		cmocka_unit_test(every_reason_is_recorded),
		cmocka_unit_test(fpd_suppresses_qualified_faults_only),
		cmocka_unit_test(plain_lookups_report_through_snest_vtd_fault),
		cmocka_unit_test(records_are_a_ring_that_overflows),
		cmocka_unit_test(only_f_of_a_record_can_be_written),
		cmocka_unit_test(fault_event_is_sent_once_until_all_is_cleared),
		cmocka_unit_test(statistics_count_what_was_lost),
		cmocka_unit_test(interrupt_range_without_pasid_is_never_translated),
		cmocka_unit_test(interrupt_range_with_pasid_is_translated),
		cmocka_unit_test(targets_without_memory_are_not_faults),
		cmocka_unit_test(pass_through_is_as_wide_as_announced),
		cmocka_unit_test(privileged_request_on_a_shared_binding_is_checked),
		cmocka_unit_test(abort_mode_refuses_without_a_record),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
