/* SPDX-License-Identifier: MIT */
/*
 * VT-d registers: capabilities, accesses of every size and alignment, GCMD
 * handshakes, invalidation by registers, event control.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/vtd_guest.h"

#define RID 0x18u
#define DID 7u

/* ---- Capabilities ------------------------------------------------------------- */

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

/* ---- Accesses -------------------------------------------------------------------- */

static void reads_of_any_size_and_alignment_agree(void **state)
{
	struct vtd_guest g;
	uint8_t page[4096 + 8];

	(void)state;
	g_create(&g, G_CAP_ALL | 1ull << 40, G_ECAP_ALL, SNEST_VTD_SYNC);
	for (unsigned at = 0; at < 4096; at += 8)
		g_write(&g, at == 0x18 || at == 0x28 || at == 0xf8 ? 0x40 : at, 8,
		        0x1122334455667788ull * (at + 1));
	memset(page, 0, sizeof(page));
	for (unsigned at = 0; at < 4096; at++)
		page[at] = (uint8_t)g_read(&g, at, 1);
	assert_int_equal(page[R_CAP], G_CAP_ALL & 0xff);
	for (unsigned at = 0; at < 4096; at++) {
		for (unsigned size = 1; size <= 8; size++) {
			uint64_t want = 0;

			memcpy(&want, page + at, size);
			assert_int_equal(g_read(&g, at, size), want);
		}
	}
	g_destroy(&g);
}

static void sizes_of_0_and_9_are_an_error_of_the_caller(void **state)
{
	struct vtd_guest g;
	uint64_t value = 5;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	assert_int_equal(snest_vtd_read(g.vtd, 0, 0, &value), -EINVAL);
	assert_int_equal(value, 0);
	assert_int_equal(snest_vtd_read(g.vtd, 0, 9, &value), -EINVAL);
	assert_int_equal(snest_vtd_write(g.vtd, 0, 0, 1), -EINVAL);
	assert_int_equal(snest_vtd_write(g.vtd, 0, 9, 1), -EINVAL);
	assert_int_equal(snest_vtd_read(g.vtd, 4096, 4, &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(snest_vtd_read(g.vtd, UINT64_MAX, 8, &value), 0);
	assert_int_equal(snest_vtd_write(g.vtd, UINT64_MAX, 8, 1), 0);
	g_destroy(&g);
}

static void writes_in_pieces_equal_one_write(void **state)
{
	static const unsigned offsets[] = {R_RTADDR, R_IQA, R_IRTA, R_PHMBASE};
	struct vtd_guest g;

	(void)state;
	g_create(&g, G_CAP_CM | 3 << 5, G_ECAP, 0);
	for (unsigned i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		uint64_t value = 0x0123456789abcdefull, want;
		unsigned at = offsets[i];

		g_write(&g, at, 8, value);
		want = g_read(&g, at, 8);
		for (unsigned cut = 1; cut < 8; cut++) {
			g_write(&g, at, 8, 0);
			g_write(&g, at, cut, value);
			g_write(&g, at + cut, 8 - cut, value >> 8 * cut);
			assert_int_equal(g_read(&g, at, 8), want);
		}
	}
	g_destroy(&g);
}

static void read_only_and_reserved_bits_stay(void **state)
{
	struct vtd_guest g;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	for (unsigned at = 0; at < 0x18; at += 4)
		g_write(&g, at, 4, UINT32_MAX);
	g_write(&g, R_GSTS, 4, UINT32_MAX);
	g_write(&g, R_IQH, 8, UINT64_MAX);
	g_write(&g, R_IQERCD, 8, UINT64_MAX);
	g_write(&g, R_RTADDR, 8, UINT64_MAX);
	g_write(&g, R_IQT, 8, UINT64_MAX);
	g_write(&g, R_FSTS, 4, UINT32_MAX);
	assert_int_equal(g_read(&g, R_VER, 4), 0x10);
	assert_int_equal(g_read(&g, R_CAP, 8), G_CAP_CM);
	assert_int_equal(g_read(&g, R_ECAP, 8), G_ECAP);
	assert_int_equal(g_read(&g, R_GSTS, 4), 0);
	assert_int_equal(g_read(&g, R_IQH, 8), 0);
	assert_int_equal(g_read(&g, R_IQERCD, 8), 0);
	assert_int_equal(g_read(&g, R_RTADDR, 8), 0xfffffffffffffc00);
	assert_int_equal(g_read(&g, R_IQT, 8), 0x7fff0);
	assert_int_equal(g_read(&g, R_FSTS, 4), 0);
	/* Write-only. */
	g_write(&g, R_IVA, 8, UINT64_MAX);
	assert_int_equal(g_read(&g, R_IVA, 8), 0);
	g_write(&g, R_GCMD, 4, CFI);
	assert_int_equal(g_read(&g, R_GCMD, 4), 0);
	g_destroy(&g);
}

static void registers_without_their_capability_do_not_exist(void **state)
{
	struct vtd_guest g;

	(void)state;
	/* Neither queue, interrupts, page requests nor protected memory. */
	g_create(&g, G_CAP_CM, 0xf00f40, 0);
	for (unsigned at = R_PMEN; at < R_IVA; at += 4) {
		g_write(&g, at, 4, UINT32_MAX);
		assert_int_equal(g_read(&g, at, 4), 0);
	}
	g_write(&g, R_GCMD, 4, QIE);
	assert_int_equal(g_read(&g, R_GSTS, 4), 0);
	g_destroy(&g);
}

/* ---- GCMD -------------------------------------------------------------------------- */

static void handshakes(uint32_t flags)
{
	struct vtd_guest g;

	g_create(&g, G_CAP_CM, G_ECAP, flags);
	g_command(&g, SRTP, true);
	g_command(&g, TE, true);
	assert_int_equal(g_read(&g, R_GSTS, 4), TE | SRTP);
	g_queue_on(&g, 0, false);
	g_command(&g, IRE, true);
	g_command(&g, CFI, true);
	g_command(&g, SIRTP, true);
	assert_int_equal(g.interrupts, 1);
	assert_int_equal(g.interrupt_last, 0xffff);
	assert_int_equal(g_read(&g, R_GSTS, 4), TE | SRTP | QIE | IRE | CFI | SIRTP);
	g_command(&g, CFI, false);
	g_command(&g, IRE, false);
	g_command(&g, QIE, false);
	g_command(&g, TE, false);
	assert_int_equal(g_read(&g, R_GSTS, 4), SRTP | SIRTP);
	/* A write buffer flush is over at once; set fault log does nothing. */
	g_write(&g, R_GCMD, 4, WBF | 1u << 29 | 1u << 28);
	assert_int_equal(g_read(&g, R_GSTS, 4) & (WBF | 1u << 29 | 1u << 28), 0);
	/* A second root pointer while TE is on. */
	g_command(&g, TE, true);
	g_set_root(&g, 0x5000);
	assert_int_equal(g_read(&g, R_GSTS, 4), SRTP | SIRTP | TE);
	g_destroy(&g);
}

static void gcmd_handshakes_complete(void **state)
{
	(void)state;
	handshakes(0);
	handshakes(SNEST_VTD_SYNC);
}

static void gcmd_written_twice_before_completion_settles_on_the_last(void **state)
{
	struct vtd_guest g;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, 0);
	/* An open read section keeps every drain from completing. */
	snest_read_begin();
	g_write(&g, R_GCMD, 4, SRTP);
	g_write(&g, R_GCMD, 4, TE);
	g_write(&g, R_GCMD, 4, 0);
	g_write(&g, R_GCMD, 4, TE);
	assert_int_equal(g_read(&g, R_GSTS, 4), 0);
	snest_read_end();
	g_poll(&g, R_GSTS, 4, TE | SRTP, TE | SRTP);
	g_destroy(&g);
}

static void gcmd_byte_writes_touch_only_their_bits(void **state)
{
	struct vtd_guest g;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, SNEST_VTD_SYNC);
	g_write(&g, R_GCMD, 4, TE | CFI);
	assert_int_equal(g_read(&g, R_GSTS, 4), TE | CFI);
	g_write(&g, R_GCMD, 2, 0);     /* nothing lives there */
	g_write(&g, R_GCMD + 2, 1, 0); /* CFI alone */
	assert_int_equal(g_read(&g, R_GSTS, 4), TE);
	g_write(&g, R_GCMD + 3, 1, 0);
	assert_int_equal(g_read(&g, R_GSTS, 4), 0);
	g_destroy(&g);
}

static void root_pointer_is_latched_by_srtp(void **state)
{
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, SNEST_VTD_SYNC);
	g_start_legacy(&g, RID, DID, &root);
	g_map(&g, root, 0x5000, G_DATA, 12, 3);
	assert_int_equal(g_dma(&g, RID, 0x5004, SNEST_READ), G_DATA + 4);
	/* An empty root table, not latched yet. */
	g_write(&g, R_RTADDR, 8, 0x6000);
	assert_int_equal(g_dma(&g, RID, 0x5004, SNEST_READ), G_DATA + 4);
	g_command(&g, SRTP, true);
	assert_int_equal(g_dma(&g, RID, 0x5004, SNEST_READ), UINT64_MAX);
	/* ESRTPS: the shadow of the old root went too, whatever the DID. */
	image_put(&g.image, g_leaf_at(&g, root, 0x5000, 12), (G_DATA + 0x1000) | 3);
	g_set_root(&g, G_ROOT);
	assert_int_equal(g_dma(&g, RID, 0x5004, SNEST_READ), G_DATA + 0x1004);
	g_destroy(&g);
}

static void translation_off_passes_everything(void **state)
{
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	g_create(&g, G_CAP_CM, G_ECAP, SNEST_VTD_SYNC);
	assert_int_equal(g_dma(&g, RID, G_DATA + 8, SNEST_WRITE), G_DATA + 8);
	g_start_legacy(&g, RID, DID, &root);
	assert_int_equal(g_dma(&g, RID, G_DATA + 8, SNEST_WRITE), UINT64_MAX);
	g_command(&g, TE, false);
	assert_int_equal(g_dma(&g, RID, G_DATA + 8, SNEST_WRITE), G_DATA + 8);
	g_destroy(&g);
}

static void protected_memory_blocks_untranslated_requests(void **state)
{
	struct vtd_guest g;

	(void)state;
	g_create(&g, G_CAP_CM | 3 << 5, G_ECAP, SNEST_VTD_SYNC);
	g_write(&g, R_PLMBASE, 4, 0x100000);
	g_write(&g, R_PLMLIMIT, 4, 0x1fffff);
	g_write(&g, R_PHMBASE, 8, UINT64_MAX);
	g_write(&g, R_PMEN, 4, IM);
	assert_int_equal(g_read(&g, R_PMEN, 4), IM | 1);
	assert_int_equal(g_dma(&g, RID, 0xff000, SNEST_READ), 0xff000);
	assert_int_equal(g_dma(&g, RID, 0x100000, SNEST_READ), UINT64_MAX);
	assert_int_equal(g_dma(&g, RID, 0x1fffff, SNEST_WRITE), UINT64_MAX);
	assert_int_equal(g_dma(&g, RID, 0x200000, SNEST_READ), 0x200000);
	g_write(&g, R_PMEN, 4, 0);
	assert_int_equal(g_read(&g, R_PMEN, 4), 0);
	assert_int_equal(g_dma(&g, RID, 0x100000, SNEST_READ), 0x100000);
	g_destroy(&g);
}

/* ---- Invalidation by registers ----------------------------------------------------- */

/* Without a queue, as FreeBSD runs under caching mode. */
static void start_without_queue(struct vtd_guest *g, uint32_t flags, uint64_t *root)
{
	g_create(g, G_CAP_CM & ~(1ull << 63), G_ECAP, flags);
	*root = g_table(g);
	g_context(g, RID, DID, *root);
	g_set_root(g, G_ROOT);
	g_command(g, TE, true);
}

static unsigned iotlb(struct vtd_guest *g, unsigned granularity, uint32_t did, uint64_t iva)
{
	uint64_t value;

	g_write(g, R_IVA, 8, iva);
	g_write(g, R_IOTLB, 8, 1ull << 63 | (uint64_t)granularity << 60 | (uint64_t)did << 32);
	g_poll(g, R_IOTLB, 8, 1ull << 63, 0);
	value = g_read(g, R_IOTLB, 8);
	return (unsigned)(value >> 57 & 3);
}

static unsigned ccmd(struct vtd_guest *g, unsigned granularity, uint32_t did, uint32_t sid,
                     unsigned fm)
{
	g_write(g, R_CCMD, 8,
	        1ull << 63 | (uint64_t)granularity << 61 | (uint64_t)fm << 32 |
	                (uint64_t)sid << 16 | did);
	g_poll(g, R_CCMD, 8, 1ull << 63, 0);
	return (unsigned)(g_read(g, R_CCMD, 8) >> 59 & 3);
}

static void iotlb_register_granularities(void **state)
{
	struct vtd_guest g;
	uint64_t root, leaf;

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		start_without_queue(&g, round ? SNEST_VTD_SYNC : 0, &root);
		g_map(&g, root, 0x5000, G_DATA, 12, 3);
		leaf = g_leaf_at(&g, root, 0x5000, 12);
		for (unsigned granularity = 1; granularity <= 3; granularity++) {
			uint64_t to = G_DATA + granularity * 0x1000;
			uint64_t before = g_dma(&g, RID, 0x5000, SNEST_READ);

			image_put(&g.image, leaf, to | 3);
			/* Another domain, another page: nothing that is ours has to go. */
			if (granularity > 1)
				iotlb(&g, granularity, DID + 1, 0x5000);
			assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), before);
			assert_int_equal(iotlb(&g, granularity, DID, 0x5000), granularity);
			assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), to);
		}
		/* Nothing is done for a reserved granularity and for AM beyond MAMV. */
		image_put(&g.image, leaf, G_DATA | 3);
		assert_int_equal(iotlb(&g, 0, DID, 0x5000), 0);
		assert_int_equal(iotlb(&g, 3, DID, 0x5000 | 19), 0);
		assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), G_DATA + 0x3000);
		assert_int_equal(iotlb(&g, 3, DID, 18), 3);
		assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), G_DATA);
		g_destroy(&g);
	}
}

static void ccmd_register_granularities(void **state)
{
	struct vtd_guest g;
	uint64_t root, other, roots[2];

	(void)state;
	start_without_queue(&g, 0, &root);
	other = g_table(&g);
	g_map(&g, root, 0x5000, G_DATA, 12, 3);
	g_map(&g, other, 0x5000, G_DATA + 0x1000, 12, 3);
	roots[0] = root;
	roots[1] = other;
	for (unsigned i = 0; i < 4; i++) {
		unsigned granularity = i < 3 ? i + 1 : 3;
		uint64_t before = G_DATA + (i & 1) * 0x1000, after = G_DATA + (~i & 1) * 0x1000;

		assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), before);
		g_context(&g, RID, DID + ((i + 1) & 1), roots[~i & 1]);
		assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), before);
		/* A device-selective command ignores the DID; the last one masks functions. */
		assert_int_equal(ccmd(&g, granularity, granularity == 3 ? 0 : DID + (i & 1),
		                      i == 3 ? RID | 7 : RID, i == 3 ? 3 : 0),
		                 granularity);
		assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), after);
	}
	assert_int_equal(ccmd(&g, 0, DID, RID, 0), 0);
	g_destroy(&g);
}

static void register_invalidation_is_ignored_while_the_queue_is_on(void **state)
{
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	start_without_queue(&g, 0, &root);
	g_map(&g, root, 0x5000, G_DATA, 12, 3);
	assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), G_DATA);
	g_queue_on(&g, 0, false);
	image_put(&g.image, g_leaf_at(&g, root, 0x5000, 12), 0);
	assert_int_equal(iotlb(&g, 1, 0, 0), 0);
	assert_int_equal(ccmd(&g, 1, 0, 0, 0), 0);
	assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), G_DATA);
	g_command(&g, QIE, false);
	assert_int_equal(iotlb(&g, 1, 0, 0), 1);
	assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), UINT64_MAX);
	g_destroy(&g);
}

static void busy_register_ignores_writes(void **state)
{
	struct vtd_guest g;
	uint64_t root, value;

	(void)state;
	start_without_queue(&g, 0, &root);
	snest_read_begin();
	g_write(&g, R_IOTLB, 8, 1ull << 63 | 1ull << 60);
	value = g_read(&g, R_IOTLB, 8);
	assert_int_equal(value >> 63, 1);
	g_write(&g, R_IOTLB, 8, 0);
	g_write(&g, R_IOTLB + 4, 4, 0x12345678);
	assert_int_equal(g_read(&g, R_IOTLB, 8), value);
	snest_read_end();
	g_poll(&g, R_IOTLB, 8, 1ull << 63, 0);
	g_destroy(&g);
}

static void iotlb_register_in_two_halves(void **state)
{
	struct vtd_guest g;
	uint64_t root;

	(void)state;
	start_without_queue(&g, SNEST_VTD_SYNC, &root);
	g_map(&g, root, 0x5000, G_DATA, 12, 3);
	g_dma(&g, RID, 0x5000, SNEST_READ);
	image_put(&g.image, g_leaf_at(&g, root, 0x5000, 12), 0);
	g_write(&g, R_IOTLB, 4, 0);
	g_write(&g, R_IOTLB + 4, 4, 1u << 31 | 2u << 28 | DID);
	assert_int_equal(g_read(&g, R_IOTLB, 8) >> 57 & 3, 2);
	assert_int_equal(g_dma(&g, RID, 0x5000, SNEST_READ), UINT64_MAX);
	g_destroy(&g);
}

/* ---- Hostile -------------------------------------------------------------------------- */

static void random_accesses_do_no_harm(void **state)
{
	static const uint64_t caps[][2] = {
		{G_CAP_CM, G_ECAP_ATS},
		{G_CAP_CM, G_ECAP_SS},
		{G_CAP_FS, G_ECAP_FS},
		{G_CAP_ALL | 3 << 5, G_ECAP_ALL},
	};

	(void)state;
	for (unsigned c = 0; c < 4; c++) {
		struct vtd_guest g;
		uint64_t value;

		g_create(&g, caps[c][0], caps[c][1], c & 1 ? SNEST_VTD_SYNC : 0);
		for (unsigned i = 0; i < 256; i++)
			image_put(&g.image, G_ROOT + i * 16, G_TABLES | 1);
		for (unsigned i = 0; i < 0x20000; i += 8)
			image_put(&g.image, G_TABLES + i, image_random(&g.image));
		g.image.state += c;
		for (unsigned i = 0; i < 20000; i++) {
			uint64_t r = image_random(&g.image), v = image_random(&g.image);
			unsigned size = 1 + (r >> 20) % 8;
			uint64_t offset = r & 1 ? r >> 8 & 0xff : r >> 8 & 0x3ff;

			if (r >> 32 & 1)
				v &= image_random(&g.image) & image_random(&g.image);
			if ((r >> 33 & 3) == 0)
				v = 0x8000 | (v & 0x1f);
			/* Sometimes what starts something, so that deep states are reached. */
			if ((r >> 35 & 7) == 0)
				offset = R_GCMD, size = 4, v = TE | QIE | (v & SRTP);
			if (r >> 40 & 1)
				snest_vtd_read(g.vtd, offset, size, &value);
			else
				snest_vtd_write(g.vtd, offset, size, v);
			if ((r >> 44 & 15) == 0)
				g_dma(&g, r >> 50 & 0xff, v & 0xffffffff, SNEST_READ);
		}
		g_destroy(&g);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(caps_of_recorded_guests_are_accepted),
		cmocka_unit_test(caps_that_contradict_are_refused_with_a_sentence),
		cmocka_unit_test(caps_are_composed_from_fields),
		cmocka_unit_test(reads_of_any_size_and_alignment_agree),
		cmocka_unit_test(sizes_of_0_and_9_are_an_error_of_the_caller),
		cmocka_unit_test(writes_in_pieces_equal_one_write),
		cmocka_unit_test(read_only_and_reserved_bits_stay),
		cmocka_unit_test(registers_without_their_capability_do_not_exist),
		cmocka_unit_test(gcmd_handshakes_complete),
		cmocka_unit_test(gcmd_written_twice_before_completion_settles_on_the_last),
		cmocka_unit_test(gcmd_byte_writes_touch_only_their_bits),
		cmocka_unit_test(root_pointer_is_latched_by_srtp),
		cmocka_unit_test(translation_off_passes_everything),
		cmocka_unit_test(protected_memory_blocks_untranslated_requests),
		cmocka_unit_test(iotlb_register_granularities),
		cmocka_unit_test(ccmd_register_granularities),
		cmocka_unit_test(register_invalidation_is_ignored_while_the_queue_is_on),
		cmocka_unit_test(busy_register_ignores_writes),
		cmocka_unit_test(iotlb_register_in_two_halves),
		cmocka_unit_test(random_accesses_do_no_harm),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
