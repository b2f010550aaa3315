/* SPDX-License-Identifier: MIT */
/*
 * VT-d fault recording: the ring of records, overflow, the fault event and its
 * mask, statistics. Which reason is recorded when: test_vtd_reasons.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/vtd_modes.h"

static void plain_lookups_report_through_snest_vtd_fault(void **state)
{
	struct snest_translation tr;
	struct snest_device *device;
	struct snest_fault fault;
	struct guest t;

	(void)state;
	start(&t, LEGACY);
	change(&t, t.second_leaf, 2, 0);
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

/* As long as any status is set, another one is not announced. */
static void one_event_for_all_causes(void **state)
{
	struct guest t;

	(void)state;
	start(&t, LEGACY);
	go(&t);
	g_queue_on(&t.g, 0, false);
	g_write(&t.g, R_FECTL, 4, 0);
	for (unsigned i = 0; i < 5; i++)
		refuse(&t, 0x100000);
	assert_int_equal(g_read(&t.g, R_FSTS, 4), 3);
	assert_int_equal(t.g.msis, 1);
	g_put(&t.g, 0, 0);
	g_ring(&t.g);
	assert_int_equal(g_read(&t.g, R_FSTS, 4), 1 << 4 | 3);
	assert_int_equal(t.g.msis, 1);
	/* Records cleared, the queue's error is left: a new record is silent. */
	for (unsigned i = 0; i < 4; i++)
		g_write(&t.g, R_FRCD + 16 * i + 12, 4, 1u << 31);
	g_write(&t.g, R_FSTS, 4, 1);
	assert_int_equal(g_read(&t.g, R_FSTS, 4), 1 << 4);
	refuse(&t, 0x100000);
	assert_int_equal(g_read(&t.g, R_FSTS, 4) & 0xff, 1 << 4 | 2);
	assert_int_equal(t.g.msis, 1);
	/* Masked and unmasked meanwhile: nothing was pending. */
	g_write(&t.g, R_FECTL, 4, IM);
	g_write(&t.g, R_FECTL, 4, 0);
	assert_int_equal(t.g.msis, 1);
	g_write(&t.g, R_FRCD + 12, 4, 1u << 31);
	image_put(&t.g.image, G_QUEUE, 5);
	g_write(&t.g, R_FSTS, 4, 1 << 4);
	assert_int_equal(g_read(&t.g, R_FSTS, 4) & 0xff, 0);
	refuse(&t, 0x100000);
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

/* ---- Log lines --------------------------------------------------------------------------- */

static void count_line(void *opaque, enum snest_log_level level, const char *text)
{
	(void)level;
	(void)text;
	++*(unsigned *)opaque;
}

/* A device that faults all the time fills the records, not the log. */
static void log_lines_are_limited_in_rate(void **state)
{
	unsigned lines = 0;
	struct snest_hooks hooks = {.size = sizeof(hooks), .opaque = &lines, .log = count_line};
	struct snest_vm_config config = {.size = sizeof(config), .hooks = &hooks};
	struct snest_vtd *vtd;
	struct snest_vm *vm;
	struct snest_translation tr;

	(void)state;
	assert_int_equal(snest_vm_create(&config, &vm), 0);
	assert_int_equal(snest_vtd_create(vm, NULL, &vtd, NULL), 0);
	assert_int_equal(snest_vtd_enable(vtd, true), 0);
	for (unsigned i = 0; i < 100000; i++) {
		snest_read_begin();
		assert_int_equal(snest_vtd_translate(vtd, RID, NO, IOVA, R, &tr, NULL), -EACCES);
		snest_read_end();
	}
	assert_true(lines > 0 && lines < 200);
	snest_vtd_destroy(vtd);
	snest_vm_destroy(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_lookups_report_through_snest_vtd_fault),
		cmocka_unit_test(records_are_a_ring_that_overflows),
		cmocka_unit_test(only_f_of_a_record_can_be_written),
		cmocka_unit_test(fault_event_is_sent_once_until_all_is_cleared),
		cmocka_unit_test(one_event_for_all_causes),
		cmocka_unit_test(statistics_count_what_was_lost),
		cmocka_unit_test(log_lines_are_limited_in_rate),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
