/* SPDX-License-Identifier: MIT */
/*
 * The parts of `snest replay` that can be wrong quietly: what a descriptor
 * covers, lists of ranges, percentiles, and pixels. Each against a plain model.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tools/replay_life.h"
#include "tools/replay_mirror.h"

static uint64_t random_state = 1;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* ---- Descriptors ------------------------------------------------------------ */

static struct sn_cover decode(uint64_t low, uint64_t high)
{
	uint8_t bytes[16];
	struct sn_cover cover;

	for (unsigned i = 0; i < 8; i++) {
		bytes[i] = (uint8_t)(low >> 8 * i);
		bytes[8 + i] = (uint8_t)(high >> 8 * i);
	}
	sn_cover_decode(bytes, sizeof(bytes), &cover);
	return cover;
}

/* The numbers are from the layout of the descriptors in the VT-d specification. */
static void iotlb_commands_cover_what_they_say(void **state)
{
	struct sn_cover c;

	(void)state;
	c = decode(0x2 | 3 << 4 | 7 << 16, 0x123456000);
	assert_true(sn_cover_hits(&c, 7, 0x123456000, 0x123456fff));
	assert_true(sn_cover_hits(&c, 7, 0, 0x123456000));
	assert_false(sn_cover_hits(&c, 7, 0x123457000, UINT64_MAX));
	assert_false(sn_cover_hits(&c, 7, 0, 0x123455fff));
	assert_false(sn_cover_hits(&c, 8, 0x123456000, 0x123456fff));
	/* AM 9 with an address in the middle: rounded down to 2 MiB. */
	c = decode(0x2 | 3 << 4 | 7 << 16, 0x123456000 | 9);
	assert_int_equal(c.first, 0x123400000);
	assert_int_equal(c.last, 0x1235fffff);
	/* Sizes that no address has: everything. */
	c = decode(0x2 | 3 << 4 | 7 << 16, 0x123456000 | 63);
	assert_int_equal(c.first, 0);
	assert_int_equal(c.last, UINT64_MAX);
	c = decode(0x2 | 2 << 4 | 7 << 16, 0);
	assert_true(sn_cover_hits(&c, 7, 0xffff0000, 0xffff0fff));
	assert_false(sn_cover_hits(&c, 6, 0xffff0000, 0xffff0fff));
	c = decode(0x2 | 1 << 4, 0);
	assert_true(sn_cover_hits(&c, 6, 0xffff0000, 0xffff0fff));
}

static void other_commands_cover_no_range(void **state)
{
	struct sn_cover c;

	(void)state;
	assert_int_equal(decode(0x1 | 1 << 4, 0).kind, SN_COVER_CONTEXT);
	assert_int_equal(decode(0x7 | 3 << 4, 0).kind, SN_COVER_CONTEXT);
	assert_int_equal(decode(0x5 | 1 << 5, 0x1000).kind, SN_COVER_WAIT);
	assert_int_equal(decode(0x3, 0).kind, SN_COVER_NONE);
	assert_int_equal(decode(0x4, 0).kind, SN_COVER_NONE);
	/* Type bits 11:9 count: this is a page group response, not a context cache command. */
	assert_int_equal(decode(0x9, 0).kind, SN_COVER_NONE);
	assert_int_equal(decode(0x1 | 1 << 9, 0).kind, SN_COVER_NONE);
	c = decode(0x6 | 2 << 4 | 7 << 16, 0);
	assert_true(sn_cover_hits(&c, 7, 0, 0));
	c = decode(0x6 | 3 << 4 | 7 << 16, 0x5000);
	assert_true(sn_cover_hits(&c, 7, 0x5000, 0x5000));
	assert_false(sn_cover_hits(&c, 7, 0x6000, 0x6000));
}

/* ---- Ranges ----------------------------------------------------------------- */

static void ranges_are_the_union_of_what_was_added(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 500; round++) {
		struct sn_ranges r = {.count = 0};
		bool model[256] = {false};
		unsigned count = (unsigned)(next_random() % 20);
		uint64_t last;

		for (unsigned i = 0; i < count; i++) {
			uint64_t first = next_random() % 256, to = first + next_random() % 16;

			to = to < 256 ? to : 255;
			sn_ranges_add(&r, first, to);
			for (uint64_t j = first; j <= to; j++)
				model[j] = true;
		}
		sn_ranges_sort(&r);
		for (uint64_t at = 0; at < 256; at = last + 1) {
			bool held = sn_ranges_hold(&r, at, &last);

			if (last > 255)
				last = 255;
			assert_true(last >= at);
			for (uint64_t j = at; j <= last; j++)
				assert_int_equal(model[j], held);
		}
		free(r.range);
	}
}

static void ranges_at_the_top_do_not_wrap(void **state)
{
	struct sn_ranges r = {.count = 0};
	uint64_t last;

	(void)state;
	sn_ranges_add(&r, UINT64_MAX - 1, UINT64_MAX);
	sn_ranges_add(&r, 0, UINT64_MAX);
	sn_ranges_add(&r, 5, 6);
	sn_ranges_sort(&r);
	assert_int_equal(r.count, 1);
	assert_true(sn_ranges_hold(&r, UINT64_MAX, &last));
	assert_int_equal(last, UINT64_MAX);
	free(r.range);
}

static void too_many_ranges_are_everything(void **state)
{
	struct sn_ranges r = {.count = 0};
	uint64_t last;

	(void)state;
	for (uint64_t i = 0; i < 100000; i++)
		sn_ranges_add(&r, 2 * i, 2 * i);
	sn_ranges_sort(&r);
	assert_true(sn_ranges_hold(&r, UINT64_MAX, &last));
	assert_true(sn_ranges_hold(&r, 1, &last));
	sn_ranges_clear(&r);
	assert_false(sn_ranges_hold(&r, 1, &last));
	free(r.range);
}

/* ---- Percentiles ------------------------------------------------------------ */

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void percentiles_are_right_to_an_eighth(void **state)
{
	static const double percents[] = {0, 10, 50, 90, 99, 99.9};
	struct sn_histogram *h = calloc(1, sizeof(*h));
	uint64_t value[5000];

	(void)state;
	assert_non_null(h);
	for (unsigned i = 0; i < 5000; i++) {
		value[i] = next_random() >> (20 + next_random() % 44);
		sn_histogram_add(h, value[i]);
	}
	qsort(value, 5000, sizeof(value[0]), by_value);
	for (unsigned i = 0; i < 6; i++) {
		uint64_t at = sn_histogram_at(h, percents[i]);
		uint64_t exact = value[(size_t)(5000 * percents[i] / 100)];

		/* Small values share buckets. */
		if (exact < 8)
			continue;
		assert_true(at <= exact);
		assert_true(at + at / 8 + 1 >= exact);
	}
	assert_int_equal(h->max, value[4999]);
	free(h);
}

static void no_times_have_no_percentiles(void **state)
{
	struct sn_histogram *h = calloc(1, sizeof(*h));

	(void)state;
	assert_non_null(h);
	assert_int_equal(sn_histogram_at(h, 50), 0);
	free(h);
}

/* ---- Pixels ----------------------------------------------------------------- */

/* Paints a path back; every pixel at most once. */
static void paint(const char *path, const struct sn_raster *raster, bool *out)
{
	unsigned x, y, w, h, w2;
	int n;

	while (sscanf(path, "M%u %uh%uv%uh-%uz%n", &x, &y, &w, &h, &w2, &n) == 5) {
		assert_int_equal(w, w2);
		for (unsigned i = 0; i < h; i++) {
			for (unsigned j = 0; j < w; j++) {
				bool *pixel = &out[(y - 7 + i) * raster->columns + x - 5 + j];

				assert_false(*pixel);
				*pixel = true;
			}
		}
		path += n;
	}
	assert_int_equal(*path, '\0');
}

static void paths_cover_exactly_the_pixels(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 200; round++) {
		uint8_t pixels[24 * 40];
		bool out[24 * 40] = {false};
		struct sn_raster raster = {.columns = 40, .rows = 24, .pixel = pixels};
		unsigned density = (unsigned)(next_random() % 8) + 1;
		char *path = NULL;
		size_t length;
		FILE *file = open_memstream(&path, &length);

		assert_non_null(file);
		memset(pixels, 0, sizeof(pixels));
		for (unsigned i = 0; i < 6 * density; i++) {
			unsigned x = (unsigned)(next_random() % 40),
				 y = (unsigned)(next_random() % 24);
			uint8_t bit = next_random() & 1 ? SN_LIFE_READ : SN_LIFE_WRITE;

			for (unsigned dy = 0; dy < 6 && y + dy < 24; dy++) {
				for (unsigned dx = 0; dx < 9 && x + dx < 40; dx++)
					pixels[(y + dy) * 40 + x + dx] |= bit;
			}
		}
		sn_raster_path(&raster, file, SN_LIFE_MAPPED, SN_LIFE_READ, 5, 7);
		assert_int_equal(fclose(file), 0);
		paint(path, &raster, out);
		for (unsigned i = 0; i < sizeof(pixels); i++)
			assert_int_equal(out[i], pixels[i] == SN_LIFE_READ);
		free(path);
	}
}

static void stretch(struct sn_life_panel *panel, uint64_t first, uint64_t last)
{
	panel->stretch[panel->count++] = (struct sn_life_stretch){
		.first = first,
		.last = last,
		.column_last = 9,
		.bits = SN_LIFE_READ,
	};
}

static void bands_hold_everything_and_break_at_wide_gaps(void **state)
{
	struct sn_life_stretch stretches[8];
	struct sn_life_panel *panel = calloc(1, sizeof(*panel));
	struct sn_life_band band[SN_LIFE_BANDS];

	(void)state;
	assert_non_null(panel);
	panel->stretch = stretches;
	assert_int_equal(sn_life_bands(panel, band), 0);
	stretch(panel, 0xfff00000, 0xffffffff);
	stretch(panel, 0xff800000, 0xff8fffff);
	stretch(panel, 0, 0xffffff);
	stretch(panel, UINT64_MAX - 4095, UINT64_MAX);
	assert_int_equal(sn_life_bands(panel, band), 4);
	assert_int_equal(band[0].first, 0);
	assert_int_equal(band[0].last, 0xffffff);
	assert_int_equal(band[1].first, 0xff800000);
	assert_int_equal(band[1].last, 0xff8fffff);
	assert_int_equal(band[2].first, 0xfff00000);
	assert_int_equal(band[2].last, 0xffffffff);
	assert_int_equal(band[3].last, UINT64_MAX);
	for (unsigned i = 0; i < 4; i++) {
		struct sn_raster raster;
		unsigned lit = 0;

		assert_int_equal(sn_raster_draw(&raster, panel, &band[i]), 0);
		for (unsigned row = 0; row < raster.rows; row++)
			lit += raster.pixel[row * raster.columns + 5] == SN_LIFE_READ;
		/* Each band is one stretch here, from its first to its last row. */
		assert_int_equal(lit, raster.rows);
		sn_raster_free(&raster);
	}
	free(panel);
}

static void a_band_of_everything_has_an_end(void **state)
{
	struct sn_life_stretch stretches[2];
	struct sn_life_panel *panel = calloc(1, sizeof(*panel));
	struct sn_life_band band[SN_LIFE_BANDS];
	struct sn_raster raster;

	(void)state;
	assert_non_null(panel);
	panel->stretch = stretches;
	stretch(panel, 0, UINT64_MAX);
	assert_int_equal(sn_life_bands(panel, band), 1);
	assert_int_equal(sn_raster_draw(&raster, panel, &band[0]), 0);
	sn_raster_free(&raster);
	free(panel);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(iotlb_commands_cover_what_they_say),
		cmocka_unit_test(other_commands_cover_no_range),
		cmocka_unit_test(ranges_are_the_union_of_what_was_added),
		cmocka_unit_test(ranges_at_the_top_do_not_wrap),
		cmocka_unit_test(too_many_ranges_are_everything),
		cmocka_unit_test(percentiles_are_right_to_an_eighth),
		cmocka_unit_test(no_times_have_no_percentiles),
		cmocka_unit_test(paths_cover_exactly_the_pixels),
		cmocka_unit_test(bands_hold_everything_and_break_at_wide_gaps),
		cmocka_unit_test(a_band_of_everything_has_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
