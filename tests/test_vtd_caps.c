/* SPDX-License-Identifier: MIT */
/*
 * VT-d capabilities: which are accepted, which contradict each other, how they
 * are composed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/vtd_guest.h"

static int try_raw(struct snest_vm *vm, uint64_t cap, uint64_t ecap, const char **why)
{
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.flags = SNEST_VTD_RAW,
		.cap = cap,
		.ecap = ecap,
	};
	struct snest_vtd *vtd = NULL;
	int ret = snest_vtd_create(vm, &config, &vtd, why);

	snest_vtd_destroy(ret ? NULL : vtd);
	return ret;
}

static void caps_of_recorded_guests_are_accepted(void **state)
{
	static const uint64_t known[][2] = {
		{0x80d2008c222f0686, 0xf00f4e},       {0x80d2008c222f0686, 0xf00f4a},
		{0x80d2008c222f0686, 0x480080f00f4a}, {0x81d2008c222f0606, 0x880000f00f4a},
		{0x80d2008c222f0606, 0xf00f4a},       {G_CAP_ALL, G_ECAP_ALL},
	};
	struct snest_vm *vm;

	(void)state;
	assert_int_equal(snest_vm_create(NULL, &vm), 0);
	for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		const char *why = "";

		if (try_raw(vm, known[i][0], known[i][1], &why))
			fail_msg("%u: %s", i, why);
	}
	snest_vm_destroy(vm);
}

static void caps_that_contradict_are_refused_with_a_sentence(void **state)
{
	static const struct {
		uint64_t cap, ecap;
		int error;
	} bad[] = {
		{G_CAP_CM | 7, G_ECAP, -EINVAL},                      /* ND reserved */
		{G_CAP_CM & ~0x1f00ull, G_ECAP, -EINVAL},             /* no SAGAW */
		{G_CAP_CM | 0x100, G_ECAP, -EINVAL},                  /* SAGAW bit 0 */
		{G_CAP_CM | 0x2000, G_ECAP, -EINVAL},                 /* reserved bit 13 */
		{G_CAP_CM & ~(1ull << 34), G_ECAP, -EINVAL},          /* 1G without 2M */
		{(G_CAP_CM & ~0x400ull), G_ECAP, -EINVAL},            /* MGAW 48, tables 39 */
		{G_CAP_CM & ~(0x3ffull << 24), G_ECAP, -EINVAL},      /* FRO 0 */
		{G_CAP_CM | 0x3ffull << 24, G_ECAP, -EINVAL},         /* FRO beyond the page */
		{G_CAP_CM | 0xffull << 40, G_ECAP, -EINVAL},          /* 256 records at 0x220 */
		{G_CAP_CM, G_ECAP & ~0x3ff00ull, -EINVAL},            /* IRO 0 */
		{G_CAP_CM, (G_ECAP & ~0x3ff00ull) | 0x2200, -EINVAL}, /* IRO over FRO */
		{G_CAP_CM, G_ECAP & ~2ull, -EINVAL},                  /* IR without QI */
		{G_CAP_CM, (G_ECAP_ATS & ~10ull), -EINVAL},           /* DT without QI */
		{G_CAP_CM, G_ECAP | 1ull << 43, -EINVAL},             /* SMTS without a stage */
		{G_CAP_CM, G_ECAP | 1ull << 47, -EINVAL},             /* FSTS without SMTS */
		{G_CAP_CM, G_ECAP_SS | 1ull << 26, -EINVAL},          /* NEST without FSTS */
		{G_CAP_CM, G_ECAP | 1ull << 40, -EINVAL},             /* PASID without SMTS */
		{G_CAP_CM, G_ECAP_SS | 1ull << 29, -EINVAL},          /* PRS without DT */
		{G_CAP_CM | 1ull << 60, G_ECAP_SS, -EINVAL},          /* FS5LP without FSTS */
		{G_CAP_CM, G_ECAP_ALL | 31ull << 35, -EINVAL},        /* PASIDs of 32 bits */
		{G_CAP_CM | 8, G_ECAP, -EOPNOTSUPP},                  /* AFL */
		{G_CAP_CM, G_ECAP | 1ull << 25, -EOPNOTSUPP},         /* MTS */
		{G_CAP_CM, G_ECAP | 1ull << 44, -EOPNOTSUPP},         /* VCS */
	};
	struct snest_vm *vm;

	(void)state;
	assert_int_equal(snest_vm_create(NULL, &vm), 0);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *why = NULL;
		int ret = try_raw(vm, bad[i].cap, bad[i].ecap, &why);

		if (ret != bad[i].error)
			fail_msg("%u: %d instead of %d", i, ret, bad[i].error);
		assert_non_null(why);
		assert_true(strlen(why) > 10);
	}
	snest_vm_destroy(vm);
}

static void caps_are_composed_from_fields(void **state)
{
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.features = SNEST_VTD_QUEUE | SNEST_VTD_CACHING_MODE | SNEST_VTD_SCALABLE |
	                    SNEST_VTD_FIRST_STAGE | SNEST_VTD_SECOND_STAGE | SNEST_VTD_NESTED |
	                    SNEST_VTD_PAGE_2M,
		.address_bits = 39,
		.domain_bits = 8,
		.pasid_bits = 16,
		.fault_records = 5,
		.page_mask_bits = 9,
		.version = 0x40,
	};
	struct vtd_guest g;
	uint64_t cap, ecap;

	(void)state;
	g_create_config(&g, &config);
	cap = g_read(&g, R_CAP, 8);
	ecap = g_read(&g, R_ECAP, 8);
	assert_int_equal(g_read(&g, R_VER, 4), 0x40);
	assert_int_equal(cap & 7, 2);                  /* ND: 8 bits */
	assert_int_equal(cap >> 7 & 1, 1);             /* CM */
	assert_int_equal(cap >> 8 & 0x1f, 2);          /* SAGAW: 39 bits */
	assert_int_equal((cap >> 16 & 0x3f) + 1, 39);  /* MGAW */
	assert_int_equal(cap >> 34 & 0xf, 1);          /* SLLPS */
	assert_int_equal((cap >> 40 & 0xff) + 1, 5);   /* NFR */
	assert_int_equal(cap >> 48 & 0x3f, 9);         /* MAMV */
	assert_int_equal(ecap >> 26 & 1, 1);           /* NEST */
	assert_int_equal((ecap >> 35 & 0x1f) + 1, 16); /* PSS */
	assert_int_equal(ecap >> 40 & 1, 1);           /* PASID */
	assert_int_equal(ecap >> 43 & 1, 1);           /* SMTS */
	config.pasid_bits = 21;
	assert_int_equal(snest_vtd_create(g.image.vm, &config, &g.vtd, NULL), -EINVAL);
	g_destroy(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(caps_of_recorded_guests_are_accepted),
		cmocka_unit_test(caps_that_contradict_are_refused_with_a_sentence),
		cmocka_unit_test(caps_are_composed_from_fields),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
