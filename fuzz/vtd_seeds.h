/* SPDX-License-Identifier: MIT */
/*
 * The inputs that target `vtd` begins with. Part of vtd.c, which has the actions.
 */
#ifndef FUZZ_VTD_SEEDS_H
#define FUZZ_VTD_SEEDS_H

static uint8_t *seed_data;
static size_t seed_size;

/* One more action: its bytes from the second to the eighth, and a value. */
static void add(unsigned kind, uint64_t rest, uint64_t value)
{
	if (seed_size + 16 > HEADER + ACTIONS_MAX * 16)
		return;
	fuzz_put(seed_data + seed_size, 8, kind | rest << 8);
	fuzz_put(seed_data + seed_size + 8, 8, value);
	seed_size += 16;
}

static void add_request(unsigned pair, unsigned iova)
{
	add(A_REQUEST, (uint64_t)pair << 32 | (uint64_t)iova << 40, 0x12);
}

/* ---- Commands that take something away ---------------------------------- */

/* Bytes of an action that describes a command. */
#define COMMAND(type, did, which, g, iova, am, more)                                               \
	((uint64_t)(type) | (uint64_t)(did) << 8 | (uint64_t)(which) << 16 | (uint64_t)(g) << 24 | \
	 (uint64_t)(iova) << 32 | (uint64_t)(am) << 40 | (uint64_t)(more) << 48)

#define LEGACY 4
#define LEGACY_NO_QUEUE (4 | 8)
/* With descriptors of 256 bits. */
#define WITH_PASIDS (1 | 2 | 4 | 0x10)
#define WITHOUT_PASIDS (1 | 2 | 4)

/* What changes: the leaf of IOVA 0x1000 in one of the tables, or the structure that leads there. */
enum change {
	LEAF_SECOND,
	LEAF_FIRST,
	CONTEXT_0,
	CONTEXT_1,
	PASID_ENTRY,
};

/* Something is asked for, changes, is taken away by one command, and asked for again. */
static const struct taking {
	uint8_t kind;  /* of unit */
	uint8_t guest; /* flags of A_GUEST */
	uint8_t pgtt, pair;
	uint8_t mirror; /* what keeps the space, and with it what is cached, while nothing is bound */
	uint8_t change;
	uint8_t by; /* action */
	uint64_t rest, value;
} takings[] = {
	{0, LEGACY, 2, 0, 0, LEAF_SECOND, A_INVALIDATE, COMMAND(2, 1, 0, 1, 0, 0, 0), 0},
	{0, LEGACY, 2, 0, 0, LEAF_SECOND, A_INVALIDATE, COMMAND(2, 1, 0, 2, 0, 0, 0), 0},
	{0, LEGACY, 2, 0, 0, LEAF_SECOND, A_INVALIDATE, COMMAND(2, 1, 0, 3, 1, 0, 0), 0},
	{0, LEGACY, 2, 0, 0, LEAF_SECOND, A_INVALIDATE, COMMAND(2, 1, 0, 3, 0, 1, 0), 0},
	{0, LEGACY, 2, 0, 0, LEAF_SECOND, A_INVALIDATE, COMMAND(2, 1, 0, 3, 2, 2, 0), 0},
	{0, LEGACY, 2, 0, 0, LEAF_SECOND, A_COMMAND, COMMAND(2, 1, 0, 3, 2, 2, 0), 0},
	{4, LEGACY_NO_QUEUE, 2, 0, 0, LEAF_SECOND, A_BY_REGISTER, COMMAND(0, 1, 0, 3, 0, 1, 0), 0},
	{4, LEGACY_NO_QUEUE, 2, 0, 0, LEAF_SECOND, A_BY_REGISTER, COMMAND(0, 1, 0, 2, 0, 0, 0), 0},
	{3, WITHOUT_PASIDS, 2, 0, 0, LEAF_SECOND, A_INVALIDATE, COMMAND(2, 1, 0, 3, 0, 1, 0), 0},
	/* First stages: a type 2 command takes all, whatever its address. */
	{1, WITHOUT_PASIDS, 1, 0, 0, LEAF_FIRST, A_INVALIDATE, COMMAND(2, 1, 0, 2, 0, 0, 0), 0},
	{1, WITHOUT_PASIDS, 1, 0, 0, LEAF_FIRST, A_INVALIDATE, COMMAND(2, 1, 0, 3, 5, 0, 0), 0},
	{7, WITHOUT_PASIDS, 3, 0, 0, LEAF_SECOND, A_INVALIDATE, COMMAND(2, 1, 0, 3, 5, 0, 0), 0},
	{1, WITHOUT_PASIDS, 1, 0, 0, LEAF_FIRST, A_INVALIDATE, COMMAND(6, 1, 0, 2, 0, 0, 0), 0},
	{1, WITHOUT_PASIDS, 1, 0, 0, LEAF_FIRST, A_INVALIDATE, COMMAND(6, 1, 0, 3, 1, 0, 0), 0},
	{1, WITHOUT_PASIDS, 1, 0, 0, LEAF_FIRST, A_INVALIDATE, COMMAND(6, 1, 0, 3, 0, 1, 0), 0},
	{2, WITHOUT_PASIDS, 1, 0, 0, LEAF_FIRST, A_INVALIDATE, COMMAND(6, 1, 0, 3, 2, 2, 0), 0},
	{5, WITH_PASIDS, 1, 2, 0, LEAF_FIRST, A_INVALIDATE, COMMAND(6, 1, 1, 2, 0, 0, 0), 0},
	{5, WITH_PASIDS, 3, 2, 0, LEAF_FIRST, A_INVALIDATE, COMMAND(6, 1, 1, 3, 1, 0, 0), 0},
	/* Structures. */
	{0, LEGACY, 2, 0, 0, CONTEXT_0, A_INVALIDATE, COMMAND(1, 1, 0, 1, 0, 0, 0), 0},
	{0, LEGACY, 2, 0, 0, CONTEXT_0, A_INVALIDATE, COMMAND(1, 1, 0, 2, 0, 0, 0), 0},
	{0, LEGACY, 2, 0, 0, CONTEXT_0, A_INVALIDATE, COMMAND(1, 1, 0, 3, 0, 0, 0), 0},
	{0, LEGACY, 2, 3, 0, CONTEXT_1, A_INVALIDATE, COMMAND(1, 1, 0, 3, 0, 0, 3), 0},
	{4, LEGACY_NO_QUEUE, 2, 0, 0, CONTEXT_0, A_BY_REGISTER, COMMAND(1, 1, 0, 2, 0, 0, 0), 0},
	{3, WITHOUT_PASIDS, 2, 0, 0, PASID_ENTRY, A_INVALIDATE, COMMAND(7, 1, 0, 0, 0, 0, 0), 0},
	{3, WITHOUT_PASIDS, 2, 0, 0, PASID_ENTRY, A_INVALIDATE, COMMAND(7, 1, 0, 1, 0, 0, 0), 0},
	{3, WITHOUT_PASIDS, 2, 0, 0, PASID_ENTRY, A_INVALIDATE, COMMAND(7, 1, 0, 3, 0, 0, 0), 0},
	{3, WITHOUT_PASIDS, 2, 0, 0, PASID_ENTRY, A_INVALIDATE, COMMAND(1, 1, 0, 2, 0, 0, 0), 0},
	/* The root again, where that takes all; translation off, and a state that is restored. */
	{4, LEGACY_NO_QUEUE, 2, 0, 1, LEAF_SECOND, A_WRITE, 0, 3ull << 30},
	{2, WITHOUT_PASIDS, 1, 0, 1, LEAF_FIRST, A_WRITE, 0, 3ull << 30 | 1 << 26},
	{4, LEGACY_NO_QUEUE, 2, 0, 1, CONTEXT_0, A_WRITE, 0, 3ull << 30},
	{1, WITHOUT_PASIDS, 1, 0, 1, LEAF_FIRST, A_WRITE, 0, 1 << 26},
	{0, LEGACY, 2, 0, 1, LEAF_SECOND, A_SAVE, 0, 0},
	{0, LEGACY, 2, 0, 1, CONTEXT_0, A_SAVE, 0, 0},
};

#define TAKINGS ((unsigned)(sizeof(takings) / sizeof(*takings)))

static size_t taking_seed(unsigned n)
{
	const struct taking *t = &takings[n];
	uint64_t page = 4096;

	memset(seed_data, 0, HEADER);
	seed_data[0] = t->kind;
	/* First stages are mirrored only with write tracking. */
	seed_data[1] = t->mirror ? 0x40 : 0;
	add(A_GUEST, t->guest | 1 << 8 | (uint64_t)(t->pgtt - 1) << 16, 0);
	add_request(t->pair, 1);
	if (t->mirror)
		add(A_MIRROR, (uint64_t)t->pair << 32, 0);
	switch (t->change) {
	case LEAF_SECOND:
		add(A_MEMORY, ((P_SECOND + 3) * 512 + 1) << 8, P_STATUS * page | 3);
		/* Nested: what the first stage leads to. */
		add(A_MEMORY, ((P_SECOND + 3) * 512 + 2) << 8, P_STATUS * page | 3);
		break;
	case LEAF_FIRST:
		add(A_MEMORY, ((P_FIRST + 3) * 512 + 1) << 8, P_OTHER * page | 7);
		break;
	/* The first stage's tables are as good a second stage. */
	case CONTEXT_0:
	case CONTEXT_1:
		add(A_MEMORY, (P_CONTEXT * 512 + (t->change == CONTEXT_1 ? 2 : 0)) << 8,
		    P_FIRST * page | 1);
		break;
	default:
		add(A_MEMORY, (P_PASIDS * 512) << 8, P_FIRST * page | 2 << 2 | 2 << 6 | 1);
	}
	add(t->by, t->rest, t->value);
	/* Translation is on again. */
	if (t->by == A_WRITE && !(t->value >> 31))
		add(A_WRITE, 0, t->value | 1ull << 31);
	add_request(t->pair, 1);
	return seed_size;
}

/* ---- What random actions seldom meet ------------------------------------ */

#define MORE_SEEDS 48u

/* Units: every bit of the capabilities bent, every field out of range. */
static void add_units(unsigned n)
{
	seed_data[0] = (uint8_t)(n * 3);
	for (unsigned i = 0; i < 16 && n < 8; i++) {
		uint64_t bit = n % 4 * 16 + i;

		add(A_UNIT,
		    1 | (n < 4 ? 1 << 8 : 0) | bit << 16 | (uint64_t)(n >= 4) << 24 | bit << 32, 0);
	}
	for (unsigned i = 0; i < 14 && n >= 8; i++)
		add(A_UNIT, i < 7 ? 0xffull << 8 * i : 0,
		    i < 7 ? 2 : 1ull << (i * 4 + n % 4) | (uint64_t)(n - 7) << 40);
	add(A_WRONG, 0, 0);
	add(A_UNIT, 0, 0xffull << 48);
}

/* Page requests until the queue is full; kinds of access that are refused. */
static void add_page_requests(unsigned n)
{
	add(A_GUEST, 3 | 4 | 0x10 | 1 << 8 | (uint64_t)(n / 6 % 4) << 16, 0);
	for (unsigned i = 0; i < 6; i++)
		add(A_PAGE_REQUEST,
		    (uint64_t)(n & 1) << 8 | (uint64_t)(i & 7) << 16 | (uint64_t)(i & 3) << 32,
		    0x1000 * i);
	/* The head follows the tail: full. */
	add(A_WRITE, 17 << 8, 0xe0);
	add(A_WRITE, 18 << 8, 0xc0);
	add(A_PAGE_REQUEST, (uint64_t)(n & 1) << 8 | 1ull << 32, 0x1000);
	add(A_PAGE_REQUEST, (uint64_t)(n & 1) << 8 | 1ull << 32, 0x1000);
	add(A_WRITE, 20 << 8, 3);
	add(A_WRITE, 19 << 8, 0x7fff000);
	add(A_PAGE_REQUEST, (uint64_t)(n & 1) << 8 | 1ull << 32, 0x1000);
}

/* A leaf that leads to the interrupt range; requests of all kinds. */
static void add_kinds(unsigned n, bool scalable)
{
	uint64_t pass = 0xf03; /* legacy: pass-through */

	if (scalable) {
		add(A_GUEST, 3 | 4 | 0x10 | 1 << 8 | (uint64_t)(n / 6 % 4) << 16, 0);
	} else {
		add(A_GUEST, 4, 0);
		add(A_MEMORY, P_CONTEXT * 512 << 8, P_SECOND * 4096 | 9);
		add(A_MEMORY, (P_CONTEXT * 512 + 1) << 8, (pass & 0xff00) | 2);
		add(A_WRITE, 8 << 8, 0xfffff00000000000ull);
		add(A_WRITE, 9 << 8, 0);
		add(A_WRITE, 7 << 8, 1ull << 31);
	}
	add(A_MEMORY, ((P_SECOND + 3) * 512 + 1) << 8, 0xfee00003);
	add(A_MEMORY, ((P_FIRST + 3) * 512 + 1) << 8, 0xfee00007);
	for (unsigned i = 0; i < 8; i++)
		add(A_REQUEST,
		    (i & 2) | (uint64_t)(n & 1) << 32 | (uint64_t)(i & 1) << 40 |
		            (uint64_t)(i << 5 & 0xe0) << 48,
		    0x12);
}

static size_t more_seeds(unsigned n)
{
	static const uint8_t kinds[] = {1, 3, 4, 5, 6, 7};
	bool scalable = features[kinds[n % 6]] & SNEST_VTD_SCALABLE;

	memset(seed_data, 0, HEADER);
	if (n < 16) {
		add_units(n);
		return seed_size;
	}
	seed_data[0] = kinds[n % 6];
	if (scalable && n >= 32)
		add_page_requests(n);
	else
		add_kinds(n, scalable);
	return seed_size;
}

/* A guest of each kind that looks, changes, invalidates and looks again; then random actions. */
size_t fuzz_seed(unsigned n, uint8_t *data, size_t max_size)
{
	struct fuzz_random r = {n};
	unsigned kind = n % 8;
	uint64_t leaf = n / 8 % 3;
	bool scalable = features[kind] & SNEST_VTD_SCALABLE;
	unsigned set_up = (scalable ? 3 : 0) | 4 | (features[kind] & SNEST_VTD_QUEUE ? 0 : 8);
	unsigned pgtt = features[kind] & SNEST_VTD_NESTED        ? 1 + n / 8 % 3
	                : features[kind] & SNEST_VTD_FIRST_STAGE ? 1
	                                                         : 2;

	if (n >= 96 + MORE_SEEDS + TAKINGS || max_size < HEADER + ACTIONS_MAX * 16)
		return 0;
	seed_data = data;
	seed_size = HEADER;
	if (n >= 96 + MORE_SEEDS)
		return taking_seed(n - 96 - MORE_SEEDS);
	if (n >= 96)
		return more_seeds(n - 96);
	data[0] = (uint8_t)kind;
	data[1] = (uint8_t)(n < 32 ? n / 8 : fuzz_random(&r));
	data[2] = (uint8_t)(n / 3);
	add(A_GUEST, set_up | 1 << 8 | (uint64_t)(pgtt - 1) << 16, 0);
	for (unsigned i = n < 32 ? 0 : 2; i < 3; i++)
		add_request(scalable ? i : 0, i);
	add_request(0, (unsigned)leaf);
	if (n & 8)
		add(A_MIRROR, 0, 0);
	/* The leaf of one IOVA, in both stages. */
	add(A_POINT, (P_SECOND + 3) << 8 | leaf << 16 | 4ull << 24 | 2ull << 32, 0);
	add(A_POINT, (P_FIRST + 3) << 8 | leaf << 16 | 5ull << 24 | 3ull << 32, 0);
	add_request(0, (unsigned)leaf);
	/* Page-selective of both types, or of one alone, and a wait. */
	if (n / 32 % 2 == 0)
		add(set_up & 8 ? A_BY_REGISTER : A_INVALIDATE, 2 | 1 << 8 | 3 << 24 | leaf << 32,
		    0);
	add(A_INVALIDATE, 6 | 1 << 8 | (2ull + n / 16 % 2) << 24 | leaf << 32, 0);
	if (n & 16)
		add(A_PIN, 0, 0);
	add(A_INVALIDATE, 5 | 2 << 24 | 7ull << 32, 0);
	add_request(0, (unsigned)leaf);
	if (n < 32) {
		add(A_INVALIDATE, (1 + n % 9) | 1 << 8 | (uint64_t)(1 + n % 3) << 24, 0);
		add(n % 2 ? A_RUN : A_PAGE_REQUEST, n % 2 ? 1 : n % 3 << 8 | 1ull << 32, 0x1000);
		add(A_SAVE, 0, n % 2 ? 0 : 0x1234503);
	}
	while (n >= 32 && seed_size < HEADER + ACTIONS_MAX * 16) {
		fuzz_action_random(&shape, data + seed_size, &r);
		seed_size += 16;
	}
	return seed_size;
}

#endif
