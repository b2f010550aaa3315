/* SPDX-License-Identifier: MIT */
/*
 * What must hold for every format, compiled once for each: include with FMT
 * defined, behind the format's header; yields `static void <FMT>_suite(config)`.
 * The expected values come from support/facts.h.
 */

#define SUITE_CAT_(a, b) a##_##b
#define SUITE_CAT(a, b) SUITE_CAT_(a, b)
#define F(name) SUITE_CAT(FMT, name)

/* Levels tile the input: each index begins where the one below ends. */
static void F(suite_levels)(const struct test_config *config, const struct sn_pt *pt, unsigned half)
{
	unsigned levels = fact_levels(&config->stage, half), at = F(shift)(pt, half, 0);

	expect(config, pt->top[half] + 1u == levels);
	expect(config, at == test_config_granule_lg2(&config->stage, half));
	for (unsigned level = 0; level < levels; level++) {
		expect(config, F(shift)(pt, half, level) == at);
		at += F(index_bits)(pt, half, level);
	}
	/* Only a VT-d stage may be narrower than its table. */
	if (config->stage.format == SNEST_FORMAT_VTD_SS)
		expect(config, at >= fact_input_bits(&config->stage, half));
	else
		expect(config, at == fact_input_bits(&config->stage, half));
}

/* The intervals of valid inputs ascend, and hold exactly what the start of a walk accepts. */
static void F(suite_spans)(const struct test_config *config, const struct sn_pt *pt)
{
	uint64_t first, last, next, unused, before = 0;
	unsigned half = 0, found;

	for (unsigned i = 0; F(span)(pt, i, &first, &last, &half); i++) {
		unsigned width = fact_input_bits(&config->stage, half);

		if (fact_signed(&config->stage))
			width--;
		expect(config, last - first == ones(width));
		expect(config, i == 0 || first > before);
		expect(config, F(start)(pt, first, &found) == 0 && found == half);
		expect(config, F(start)(pt, last, &found) == 0 && found == half);
		/* Under ignored top bytes one interval may begin where another ends. */
		if (first && (i == 0 || first - 1 != before))
			expect(config, F(start)(pt, first - 1, &found) != 0);
		if (last != UINT64_MAX &&
		    !(F(span)(pt, i + 1, &next, &unused, &found) && next == last + 1))
			expect(config, F(start)(pt, last + 1, &found) != 0);
		before = last;
	}
	for (unsigned n = 0; n < 4096; n++) {
		uint64_t in = n < 64 ? ones(n) : n < 128 ? ~ones(n - 64) : noise(n);
		bool inside = false;

		if (n >= 1024)
			in = n & 1 ? in & ones(n % 64) : in | ~ones(n % 64);
		for (unsigned i = 0; !inside && F(span)(pt, i, &first, &last, &half); i++)
			inside = in >= first && in <= last;
		expect(config, inside == !F(start)(pt, in, &found));
		if (inside)
			expect(config, found == half);
	}
}

/* One leaf there and back. */
static void F(suite_leaf)(const struct test_config *config, const struct sn_pt *pt, unsigned half,
                          unsigned level, unsigned lg2, uint64_t addr, uint32_t rights,
                          uint32_t attr)
{
	static const uint32_t access[2] = {0, SNEST_PRIVILEGED};
	uint32_t granted[2], kept;
	struct sn_entry e;
	uint64_t raw;

	if (F(make_leaf)(pt, half, level, lg2, addr, rights, attr, &raw)) {
		expect(config, fact_refuses(&config->stage, rights, attr));
		return;
	}
	expect(config, !fact_refuses(&config->stage, rights, attr));
	expect(config, raw != 0);
	e = F(decode)(pt, half, level, raw);
	expect(config, e.kind == SN_ENTRY_LEAF && !e.early && !e.late);
	expect(config, e.lg2 == lg2 && e.addr == addr);
	for (unsigned i = 0; i < 2; i++)
		granted[i] = F(rights)(pt, e.grant, access[i]);
	expect(config, granted[0] == fact_granted(&config->stage, rights, attr, false));
	expect(config, granted[1] == fact_granted(&config->stage, rights, attr, true));
	/* A denial is a right that is missing. */
	for (uint32_t ask = 0; ask <= SNEST_RIGHTS; ask++) {
		for (unsigned i = 0; i < 2; i++) {
			bool denied = F(deny)(pt, e.grant, ask | access[i]) ||
			              F(deny_late)(pt, e.grant, ask | access[i], true);

			expect(config, denied == !!(ask & ~granted[i]));
		}
	}
	kept = fact_attr_kept(&config->stage, rights);
	expect(config, ((F(attr)(pt, level, raw) ^ attr) & kept) == 0);
	/* The flags that a touch sets are those that attributes show; then nothing is left to do. */
	if (F(touch_mode)(pt) == SN_TOUCH_UPDATE) {
		uint64_t read = F(touch)(pt, raw, true, false);
		uint64_t written = F(touch)(pt, read, true, true);

		expect(config, F(attr)(pt, level, read) & SNEST_ATTR_ACCESSED);
		expect(config, F(touch)(pt, read, true, false) == read);
		expect(config, F(touch)(pt, written, true, true) == written);
		if ((rights & SNEST_WRITE) && (pt->flags & SNEST_STAGE_HW_D))
			expect(config, F(attr)(pt, level, written) & SNEST_ATTR_DIRTY);
	} else {
		expect(config, F(touch_mode)(pt) == SN_TOUCH_NONE ||
		                       F(touch)(pt, raw, true, rights & SNEST_WRITE) == raw);
	}
}

/* All sizes, addresses with each bit set, all rights, all attributes. */
static void F(suite_leaves)(const struct test_config *config, const struct sn_pt *pt, unsigned half)
{
	unsigned oa_bits = half_output_bits(&config->stage, half);

	for (unsigned level = 0; level <= pt->top[half]; level++) {
		uint64_t sizes = F(leaf_sizes)(pt, half, level), raw;

		expect(config, sizes == fact_leaf_sizes(&config->stage, half, level));
		for (unsigned lg2 = 0; lg2 < 64; lg2++) {
			if (!(sizes >> lg2 & 1))
				continue;
			for (unsigned bit = lg2; bit < oa_bits; bit++)
				F(suite_leaf)
			(config, pt, half, level, lg2, (uint64_t)1 << bit, SNEST_READ, 0);
			for (unsigned n = 0; n < 8 * 64; n++)
				F(suite_leaf)
			(config, pt, half, level, lg2, ones(oa_bits) & ~ones(lg2), n & 7,
			 attributes(n >> 3));
			expect(config, F(make_leaf)(pt, half, level, lg2, (uint64_t)1 << oa_bits,
			                            SNEST_READ, 0, &raw) == -EINVAL);
			expect(config, F(make_leaf)(pt, half, level, lg2, (uint64_t)1 << (lg2 - 1),
			                            SNEST_READ, 0, &raw) == -EINVAL);
		}
	}
}

/* Table entries there and back, and what they grant: everything. */
static void F(suite_tables)(const struct test_config *config, const struct sn_pt *pt, unsigned half)
{
	unsigned low = test_config_granule_lg2(&config->stage, half);
	unsigned oa_bits = half_output_bits(&config->stage, half);

	for (unsigned level = 1; level <= pt->top[half]; level++) {
		unsigned lowest = config->stage.format == SNEST_FORMAT_AMD_V1 ? 0 : level - 1;

		for (unsigned next = lowest; next < level; next++) {
			for (unsigned bit = low; bit <= oa_bits; bit++) {
				uint64_t addr = bit == oa_bits ? ones(oa_bits) & ~ones(low)
				                               : (uint64_t)1 << bit;
				uint64_t raw = F(make_table)(pt, half, level, next, addr);
				struct sn_entry e = F(decode)(pt, half, level, raw);

				expect(config, raw != 0 && e.kind == SN_ENTRY_TABLE);
				expect(config, !e.early && !e.late && e.addr == addr);
				expect(config, e.next == next && e.grant == SN_GRANT_ALL);
				/* Exactly the index bits of the levels in between. */
				expect(config, e.skip == (ones(F(shift)(pt, half, level)) &
				                          ~ones(F(shift)(pt, half, next + 1))));
			}
		}
	}
}

/* Each bit of a good entry, flipped alone: reserved where the manual says so, and nowhere else. */
static void F(suite_reserved)(const struct test_config *config, const struct sn_pt *pt,
                              unsigned half)
{
	for (unsigned level = 0; level <= pt->top[half]; level++) {
		for (unsigned leaf = 0; leaf < 2; leaf++) {
			uint64_t reserved = fact_reserved(&config->stage, level, leaf), raw;

			if (leaf ? F(make_leaf)(pt, half, level, F(shift)(pt, half, level), 0,
			                        SNEST_READ | SNEST_EXEC, 0, &raw) != 0 ||
			                    !(F(leaf_sizes)(pt, half, level) >>
			                              F(shift)(pt, half, level) &
			                      1)
			         : level == 0)
				continue;
			if (!leaf)
				raw = F(make_table)(pt, half, level, level - 1, 0);
			for (unsigned bit = 0; bit < 8u << F(ENTRY_LG2); bit++) {
				struct sn_entry e =
					F(decode)(pt, half, level, raw ^ (uint64_t)1 << bit);
				bool faults = e.early == SNEST_FAULT_RESERVED ||
				              e.late == SNEST_FAULT_RESERVED;

				if (faults != (reserved >> bit & 1))
					fail_msg("%s: level %u, %s, bit %u", config->name, level,
					         leaf ? "leaf" : "table", bit);
			}
		}
	}
}

/* Any bytes decode to something that keeps the walk in bounds. */
static void F(suite_hostile)(const struct test_config *config, const struct sn_pt *pt,
                             unsigned half)
{
	uint64_t out = ones(half_output_bits(&config->stage, half));
	struct snest_stage wide = config->stage;

	/* What is read may have sizes beyond the output width; only what is written may not. */
	wide.oa_bits = 0;
	for (unsigned n = 0; n < 20000; n++) {
		unsigned level = n % (pt->top[half] + 1u);
		uint64_t raw = n < 64 ? ~ones(n) : noise(n) | (n & 64 ? 3 : 0);
		struct sn_entry e = F(decode)(pt, half, level, raw);

		if (e.early || e.late)
			continue;
		expect(config, e.kind == SN_ENTRY_LEAF || e.kind == SN_ENTRY_TABLE);
		expect(config, !(e.addr & ~out));
		if (e.kind == SN_ENTRY_TABLE)
			expect(config, level > 0 && e.next < level);
		else
			expect(config, e.lg2 < 64 && !(e.addr & ones(e.lg2)) &&
			                       fact_leaf_sizes(&wide, half, level) >> e.lg2 & 1);
	}
}

static void F(suite)(const struct test_config *config)
{
	const char *why = NULL;
	struct sn_pt pt;

	expect(config, sn_pt_prepare(&pt, &config->stage, &why) == 0);
	F(suite_spans)(config, &pt);
	for (unsigned half = 0; half < (pt.ia_bits[1] ? 2 : 1); half++) {
		F(suite_levels)(config, &pt, half);
		F(suite_leaves)(config, &pt, half);
		F(suite_tables)(config, &pt, half);
		F(suite_reserved)(config, &pt, half);
		F(suite_hostile)(config, &pt, half);
	}
}

#undef F
