/* SPDX-License-Identifier: MIT */
/*
 * VT-d registers: accesses of every size and alignment, GCMD handshakes, root
 * pointer, protected memory, random accesses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/vtd_guest.h"

#define RID 0x18u
#define DID 7u

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

/* Each status bit that says something is out of use waits for its users. */
static void status_follows_after_readers_have_gone(void **state)
{
	static const struct {
		unsigned reg;
		uint64_t write, bits, before, after;
	} cases[] = {
		{R_GCMD, TE | QIE | SRTP, SRTP, 0, SRTP},
		{R_GCMD, TE | QIE, TE, 0, TE},
		{R_GCMD, QIE, TE, TE, 0},
		{R_GCMD, 0, QIE, QIE, 0},
		{R_PMEN, IM, IM | 1, IM, IM | 1},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned status = cases[i].reg == R_GCMD ? R_GSTS : cases[i].reg;
		struct vtd_guest g;

		g_create(&g, G_CAP_CM | 3 << 5, G_ECAP, 0);
		g_queue_on(&g, 0, false);
		if (cases[i].before & TE)
			g_command(&g, TE, true);
		snest_read_begin();
		g_write(&g, cases[i].reg, 4, cases[i].write);
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
		assert_int_equal(g_read(&g, status, 4) & cases[i].bits, cases[i].before);
		snest_read_end();
		g_poll(&g, status, 4, cases[i].bits, cases[i].after);
		g_destroy(&g);
	}
}

static void protection_turned_off_and_on_waits_anew(void **state)
{
	struct vtd_guest g;

	(void)state;
	g_create(&g, G_CAP_CM | 3 << 5, G_ECAP, 0);
	snest_read_begin();
	for (unsigned i = 0; i < 5; i++)
		g_write(&g, R_PMEN, 4, i & 1 ? 0 : IM);
	assert_int_equal(g_read(&g, R_PMEN, 4), IM);
	snest_read_end();
	g_poll(&g, R_PMEN, 4, UINT32_MAX, IM | 1);
	g_write(&g, R_PMEN, 4, 0);
	assert_int_equal(g_read(&g, R_PMEN, 4), 0);
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
		cmocka_unit_test(status_follows_after_readers_have_gone),
		cmocka_unit_test(protection_turned_off_and_on_waits_anew),
		cmocka_unit_test(random_accesses_do_no_harm),
	};

	snest_thread_register();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
