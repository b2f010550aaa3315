/* SPDX-License-Identifier: MIT */
/*
 * VT-d page requests: the entries, the ring and its overflow, the event,
 * refusals, and the way from a request to its response.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/vtd_guest.h"

#define RID 0x118u
#define PASID 0x45u

static void start(struct vtd_guest *g)
{
	g_create(g, G_CAP_ALL, G_ECAP_ALL, SNEST_VTD_SYNC);
	g_scalable_context(g, RID, PASID);
	g_pasid(g, RID, PASID, PGTT_SECOND, 7, 0, g_table(g));
	g_start_scalable(g);
	g_write(g, R_PQH, 8, 0);
	g_write(g, R_PQT, 8, 0);
	g_write(g, R_PQA, 8, G_PRQ);
	g_write(g, R_PEDATA, 4, 0x31);
	g_write(g, R_PEADDR, 4, 0xfee03000);
	g_write(g, R_PECTL, 4, 0);
}

static int ask(struct vtd_guest *g, uint32_t group, uint32_t last)
{
	struct snest_vtd_page_request r = {
		.rid = RID,
		.pasid = PASID,
		.access = SNEST_WRITE,
		.group = group,
		.last = last,
		.iova = 0x7000 + group * 0x1000ull,
	};

	return snest_vtd_page_request(g->vtd, &r);
}

static void entry_has_every_field(void **state)
{
	struct vtd_guest g;
	struct snest_vtd_page_request r = {
		.rid = RID,
		.pasid = 0x12345,
		.access = SNEST_READ | SNEST_EXEC | SNEST_PRIVILEGED,
		.group = 0x1aa,
		.last = 1,
		.private_valid = 1,
		.iova = 0xffff800012345678,
		.private_data = {0x1111, 0x2222},
	};

	(void)state;
	start(&g);
	/* A PASID within the directory's 128 entries of 64. */
	r.pasid = 0x1345;
	g_pasid(&g, RID, 0x1345, PGTT_SECOND, 7, 0, g_table(&g));
	assert_int_equal(snest_vtd_page_request(g.vtd, &r), 0);
	assert_int_equal(image_get(&g.image, G_PRQ), 1ull | 1 << 8 | 1 << 9 | (uint64_t)RID << 16 |
	                                                     0x1345ull << 32 | 1ull << 52 |
	                                                     1ull << 53);
	assert_int_equal(image_get(&g.image, G_PRQ + 8),
	                 0xffff800012345000ull | 0x1aaull << 3 | 4 | 1);
	assert_int_equal(image_get(&g.image, G_PRQ + 16), 0x1111);
	assert_int_equal(image_get(&g.image, G_PRQ + 24), 0x2222);
	assert_int_equal(g_read(&g, R_PQT, 8), 32);
	assert_int_equal(g_read(&g, R_PRS, 4), 1);
	assert_int_equal(g.msis, 1);
	assert_int_equal(g.msi_data, 0x31);
	r.pasid = SNEST_NO_PASID;
	r.private_valid = 0;
	r.access = SNEST_WRITE;
	r.last = 0;
	assert_int_equal(snest_vtd_page_request(g.vtd, &r), 0);
	assert_int_equal(image_get(&g.image, G_PRQ + 32), 1ull | (uint64_t)RID << 16);
	assert_int_equal(image_get(&g.image, G_PRQ + 40),
	                 0xffff800012345000ull | 0x1aaull << 3 | 2);
	assert_int_equal(image_get(&g.image, G_PRQ + 48), 0);
	/* PPR was still set: no second interrupt. */
	assert_int_equal(g.msis, 1);
	g_destroy(&g);
}

static void event_comes_again_after_its_status_was_cleared(void **state)
{
	struct vtd_guest g;

	(void)state;
	start(&g);
	assert_int_equal(ask(&g, 1, 1), 0);
	g_write(&g, R_PRS, 4, 1);
	assert_int_equal(g_read(&g, R_PRS, 4), 0);
	assert_int_equal(ask(&g, 2, 1), 0);
	assert_int_equal(g.msis, 2);
	g_write(&g, R_PRS, 4, 1);
	g_write(&g, R_PECTL, 4, IM);
	assert_int_equal(ask(&g, 3, 1), 0);
	assert_int_equal(g_read(&g, R_PECTL, 4), IM | IP);
	g_write(&g, R_PECTL, 4, 0);
	assert_int_equal(g.msis, 3);
	g_destroy(&g);
}

static void full_queue_overflows_and_answers(void **state)
{
	struct vtd_guest g;

	(void)state;
	start(&g);
	/* 128 slots hold 127 requests. */
	for (unsigned i = 0; i < 127; i++)
		assert_int_equal(ask(&g, i, 0), 0);
	assert_int_equal(g_read(&g, R_PQT, 8), 127 * 32);
	assert_int_equal(ask(&g, 300, 0), -ENOSPC);
	assert_int_equal(g_read(&g, R_PRS, 4), 3);
	assert_int_equal(g.responses, 0);
	assert_int_equal(ask(&g, 301, 1), -ENOSPC);
	assert_int_equal(g.responses, 1);
	assert_int_equal(g.response.group, 301);
	assert_int_equal(g.response.code, SNEST_VTD_RESPONSE_SUCCESS);
	/* Room alone does not help: the overflow has to be cleared. */
	g_write(&g, R_PQH, 8, 127 * 32);
	assert_int_equal(ask(&g, 302, 1), -ENOSPC);
	g_write(&g, R_PRS, 4, 2);
	assert_int_equal(ask(&g, 303, 1), 0);
	assert_int_equal(g_read(&g, R_PQT, 8), 0);
	assert_int_equal(image_get(&g.image, G_PRQ + 127 * 32 + 8) >> 3 & 0x1ff, 303);
	g_destroy(&g);
}

static void refused_by_the_configuration(void **state)
{
	struct vtd_guest g;
	uint64_t at;

	(void)state;
	start(&g);
	at = g_context_table(&g, RID, true) + (RID & 0x7f) * 32;
	image_put(&g.image, at, image_get(&g.image, at) & ~16ull); /* PRE */
	assert_int_equal(ask(&g, 1, 1), -EACCES);
	assert_int_equal(g_read(&g, R_FRCD + 8, 8) >> 32 & 0xff, 0x47);
	assert_int_equal(g_read(&g, R_FRCD + 8, 8) >> 28 & 1, 1);
	assert_int_equal(g_read(&g, R_PQT, 8), 0);
	g_command(&g, TE, false);
	assert_int_equal(ask(&g, 1, 1), -EACCES);
	/* Legacy mode. */
	g_write(&g, R_FRCD + 12, 4, 1u << 31);
	g_set_root(&g, G_ROOT);
	g_command(&g, TE, true);
	struct snest_vtd_page_request r = {.rid = RID, .pasid = SNEST_NO_PASID};

	assert_int_equal(snest_vtd_page_request(g.vtd, &r), -EACCES);
	assert_int_equal(g_read(&g, R_FRCD + 8, 8) >> 32 & 0xff, 0x32);
	g_destroy(&g);
}

static void errors_of_the_caller(void **state)
{
	struct snest_vtd_page_request r = {.rid = RID, .pasid = PASID};
	struct vtd_guest g;

	(void)state;
	start(&g);
	r.rid = 0x10000;
	assert_int_equal(snest_vtd_page_request(g.vtd, &r), -EINVAL);
	r.rid = RID;
	r.pasid = 1 << 20;
	assert_int_equal(snest_vtd_page_request(g.vtd, &r), -EINVAL);
	r.pasid = PASID;
	r.group = 512;
	assert_int_equal(snest_vtd_page_request(g.vtd, &r), -EINVAL);
	r.group = 0;
	g_write(&g, R_PQA, 8, IMAGE_OUTSIDE);
	assert_int_equal(snest_vtd_page_request(g.vtd, &r), -EFAULT);
	assert_int_equal(g_read(&g, R_PQT, 8), 0);
	g_destroy(&g);
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	assert_int_equal(snest_vtd_page_request(g.vtd, &r), -EOPNOTSUPP);
	g_destroy(&g);
}

static void hostile_offsets_stay_in_the_ring(void **state)
{
	struct vtd_guest g;

	(void)state;
	start(&g);
	for (unsigned i = 0; i < 5000; i++) {
		uint64_t r = image_random(&g.image);

		g_write(&g, r & 1 ? R_PQH : R_PQT, 8, image_random(&g.image));
		if (!(r & 0xf0))
			g_write(&g, R_PQA, 8, (r >> 20 & 7) | (IMAGE_SIZE - 4096));
		ask(&g, r >> 32 & 0x1ff, r >> 8 & 1);
		g_write(&g, R_PRS, 4, 3);
		assert_true(g_read(&g, R_PQT, 8) <= 0x7ffe0);
	}
	g_destroy(&g);
}

static void request_map_and_response(void **state)
{
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	start(&g);
	root = image_get(&g.image, g_pasid_at(&g, RID, PASID)) & ~0xfffull;
	assert_int_equal(g_request(&g, RID, PASID, 0x8000, SNEST_WRITE, NULL), UINT64_MAX);
	assert_int_equal(ask(&g, 1, 1), 0);
	/* The guest reads the entry, maps, invalidates, answers. */
	uint64_t iova = image_get(&g.image, G_PRQ + 8) & ~0xfffull;

	g_map(&g, root, iova, G_DATA, 12, 3);
	g_write(&g, R_PQH, 8, 32);
	g_write(&g, R_PRS, 4, 1);
	g_put(&g, D_IOTLB(3, 7), iova);
	g_put(&g, 9ull | 1 << 4 | (uint64_t)RID << 16 | (uint64_t)PASID << 32, 4 | 1 << 3);
	g_put_wait(&g, 0, 1, 1 << 7);
	g_ring(&g);
	assert_int_equal(g_status(&g, 0), 1);
	assert_int_equal(g.responses, 1);
	assert_int_equal(g.response.group, 1);
	assert_int_equal(g.response.code, SNEST_VTD_RESPONSE_SUCCESS);
	assert_int_equal(g_request(&g, RID, PASID, 0x8000, SNEST_WRITE, NULL), G_DATA);
	g_destroy(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entry_has_every_field),
		cmocka_unit_test(event_comes_again_after_its_status_was_cleared),
		cmocka_unit_test(full_queue_overflows_and_answers),
		cmocka_unit_test(refused_by_the_configuration),
		cmocka_unit_test(errors_of_the_caller),
		cmocka_unit_test(hostile_offsets_stay_in_the_ring),
		cmocka_unit_test(request_map_and_response),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
