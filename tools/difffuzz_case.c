/* SPDX-License-Identifier: MIT */
/*
 * Cases: made, loaded, answered by both walkers, compared (tools/difffuzz.h).
 */
#include <string.h>
#include "support/configs.h"
#include "tools/difffuzz.h"

/* Cases that begin with the same table: planting one costs as much as several cases. */
#define FAMILY 32

void sn_diff_case_copy(struct sn_diff_case *to, const struct sn_diff_case *from)
{
	memcpy(to, from, offsetof(struct sn_diff_case, records));
	memcpy(to->records, from->records, from->bytes);
}

/* ---- Stages --------------------------------------------------------------------- */

int sn_diff_stage_create(struct sn_diff *d, unsigned index)
{
	struct sn_diff_stage *s = &d->stage[index];
	struct snest_region region = {.size = sizeof(region), .mapping = d->words};
	unsigned bits = test_config_output_bits(&s->stage), limit = d->walker.declared.memory_bits;
	int ret;

	if (limit && limit < bits)
		bits = limit;
	s->high = (uint64_t)1 << (bits - 1);
	ret = snest_vm_create(NULL, &s->vm);
	for (unsigned i = 0; !ret && i < 2; i++) {
		/* Host addresses mean nothing here; they are only to be distinct. */
		region.first = i ? s->high : 0;
		region.last = region.first + IMAGE_BYTES - 1;
		region.host = (i + 1) * IMAGE_BYTES;
		ret = snest_memory_add(s->vm, &region);
	}
	return ret;
}

void sn_diff_stages_destroy(struct sn_diff *d)
{
	for (unsigned i = 0; i < d->stages; i++) {
		if (d->stage[i].vm)
			snest_vm_destroy(d->stage[i].vm);
	}
}

/* ---- Making a case ---------------------------------------------------------------- */

/* A generator of its own for each number, and for each purpose. */
static struct fuzz_random generator(uint64_t seed, uint64_t purpose, uint64_t number)
{
	struct fuzz_random r = {seed};

	r.state = fuzz_random(&r) + purpose;
	r.state = fuzz_random(&r) + number;
	r.state = fuzz_random(&r);
	return r;
}

static void plant_family(struct sn_diff *d, uint64_t family)
{
	struct fuzz_random r = generator(d->seed, 1, family);
	struct sn_diff_stage *s;

	d->family = family;
	d->family_stage = (unsigned)fuzz_below(&r, d->stages);
	s = &d->stage[d->family_stage];
	d->family_bytes = fuzz_plant(s->vm, &s->stage, fuzz_below(&r, 2) ? s->high : 0, &r,
	                             d->family_records, sizeof(d->family_records), &d->planted);
}

static size_t bend_bytes(uint8_t *data, size_t size, size_t max_size, struct fuzz_random *r)
{
	(void)max_size;
	for (uint64_t n = fuzz_below(r, 4); size && n; n--)
		data[fuzz_below(r, size)] ^= (uint8_t)(1u << fuzz_below(r, 8));
	return size;
}

static uint64_t point_swapped(uint64_t word, uint64_t addr)
{
	return __builtin_bswap64(fuzz_point(__builtin_bswap64(word), addr));
}

static uint64_t point_riscv_swapped(uint64_t word, uint64_t addr)
{
	return __builtin_bswap64(fuzz_point_riscv(__builtin_bswap64(word), addr));
}

/* How an entry of the stage is made to point elsewhere. */
static uint64_t (*pointer(const struct snest_stage *stage))(uint64_t, uint64_t)
{
	bool riscv = stage->format == SNEST_FORMAT_RISCV32 || stage->format == SNEST_FORMAT_RISCV64;

	if (stage->flags & SNEST_STAGE_BIG_ENDIAN)
		return riscv ? point_riscv_swapped : point_swapped;
	return riscv ? fuzz_point_riscv : fuzz_point;
}

/* An address to ask about: mostly one that was mapped once, or nearly so. */
static uint64_t any_iova(const struct fuzz_planted *planted, struct fuzz_random *r)
{
	uint64_t iova = fuzz_random(r), kind = fuzz_below(r, 16);

	if (kind == 0)
		return iova;
	if (kind == 1 || !planted->count)
		return iova & 0x1ffffff;
	kind = fuzz_below(r, planted->count);
	iova %= planted->range[kind].last - planted->range[kind].first + 1;
	iova += planted->range[kind].first;
	if (fuzz_below(r, 4) == 0)
		iova ^= (uint64_t)1 << fuzz_below(r, 64);
	return iova;
}

void sn_diff_case_make(struct sn_diff *d, uint64_t number, struct sn_diff_case *c)
{
	struct fuzz_random r = generator(d->seed, 0, number);
	struct fuzz_shape shape = {.header = 0};

	if (d->family != number / FAMILY)
		plant_family(d, number / FAMILY);
	c->number = number;
	c->stage = d->family_stage;
	c->root = d->planted.root;
	c->root_high = d->planted.root_high;
	c->bytes = d->family_bytes;
	memcpy(c->records, d->family_records, d->family_bytes);
	shape.point = pointer(&d->stage[c->stage].stage);
	/* A quarter remains what a decent guest writes. */
	for (uint64_t n = fuzz_below(&r, 4); n; n--)
		c->bytes = fuzz_bend(&shape, bend_bytes, c->records, c->bytes, sizeof(c->records),
		                     (unsigned)fuzz_random(&r));
	/* Nowhere, rarely: tables without memory. */
	if (fuzz_below(&r, 64) == 0)
		c->root ^= d->stage[c->stage].high >> 1;
	c->questions = SN_DIFF_QUESTIONS;
	for (unsigned i = 0; i < c->questions; i++) {
		c->question[i].access = d->access[fuzz_below(&r, d->accesses)];
		c->question[i].iova = any_iova(&d->planted, &r);
	}
}

/* ---- Loading ---------------------------------------------------------------------- */

void sn_diff_case_load(struct sn_diff *d, const struct sn_diff_case *c, bool whole)
{
	uint64_t *theirs = d->walker.words;

	if (whole) {
		memset(d->words, 0, IMAGE_BYTES);
		memset(theirs, 0, IMAGE_BYTES);
		d->used = 0;
	}
	for (; d->used; d->used &= d->used - 1) {
		size_t page = (size_t)__builtin_ctzll(d->used);

		memset(d->words + page * 512, 0, 4096);
		memset(theirs + page * 512, 0, 4096);
	}
	for (size_t at = 0; at + RECORD_BYTES <= c->bytes; at += RECORD_BYTES) {
		size_t word = fuzz_get(c->records + at, 2) % IMAGE_WORDS;

		d->words[word] = theirs[word] = fuzz_get(c->records + at + 2, 8);
		d->used |= (uint64_t)1 << word / 512;
	}
}

static bool memory_same(const struct sn_diff *d)
{
	for (uint64_t pages = d->used; pages; pages &= pages - 1) {
		size_t page = (size_t)__builtin_ctzll(pages);

		if (memcmp(d->words + page * 512, d->walker.words + page * 512, 4096))
			return false;
	}
	return true;
}

/* ---- Answering and comparing ------------------------------------------------------ */

/* snest's own answer, with the effects on memory that the walker claims to have. */
static void walk(const struct sn_diff *d, const struct sn_diff_stage *s,
                 const struct sn_diff_question *q, struct snest_walk *result)
{
	uint32_t reports = d->walker.declared.reports;
	bool update = reports & SNEST_WALKER_UPDATES;

	if (!update || (reports & SNEST_WALKER_UPDATES_LATE)) {
		snest_walk(s->vm, &s->stage, 1, q->iova, q->access, SNEST_WALK_NO_UPDATE, result,
		           NULL, NULL);
		if (!update || result->outcome == SNEST_WALK_FAULT)
			return;
	}
	snest_walk(s->vm, &s->stage, 1, q->iova, q->access, 0, result, NULL, NULL);
}

static struct sn_diff_class differ(enum sn_diff_kind kind, unsigned reason)
{
	return (struct sn_diff_class){(uint8_t)kind, (uint8_t)reason};
}

/* How an answer differs from snest's; kind SN_DIFF_NONE if it does not. */
static struct sn_diff_class compare(uint32_t reports, const struct snest_walk *ours,
                                    const struct snest_walker_answer *theirs)
{
	const struct snest_walk_stage *leaf = &ours->stage[0];

	if (theirs->outcome > SNEST_WALKER_UNKNOWN)
		return differ(SN_DIFF_ERROR, 0);
	if (theirs->outcome == SNEST_WALKER_UNKNOWN)
		return differ(SN_DIFF_NONE, 0);
	if (ours->outcome == SNEST_WALK_FAULT) {
		unsigned reason = ours->fault.reason;

		if (theirs->outcome == SNEST_WALKER_TRANSLATED)
			return differ(SN_DIFF_MISSED_FAULT, reason);
		if ((reports & SNEST_WALKER_REASON) && theirs->reason != reason)
			return differ(SN_DIFF_REASON, reason);
		if ((reports & SNEST_WALKER_LEVEL) && theirs->level != ours->fault.level)
			return differ(SN_DIFF_LEVEL, reason);
		return differ(SN_DIFF_NONE, 0);
	}
	if (theirs->outcome == SNEST_WALKER_FAULT)
		return differ(SN_DIFF_EXTRA_FAULT, 0);
	if (theirs->gpa != leaf->output)
		return differ(SN_DIFF_ADDRESS, 0);
	if ((reports & SNEST_WALKER_SIZE) && theirs->lg2 != leaf->lg2)
		return differ(SN_DIFF_SIZE, 0);
	if ((reports & SNEST_WALKER_RIGHTS) && theirs->rights != leaf->rights)
		return differ(SN_DIFF_RIGHTS, 0);
	if ((reports & SNEST_WALKER_LEVEL) && theirs->level != leaf->level)
		return differ(SN_DIFF_LEVEL, 0);
	return differ(SN_DIFF_NONE, 0);
}

/* Whether a difference is what the caller looks for. */
static bool wanted(struct sn_diff *d, struct sn_diff_class class, const struct sn_diff_class *only)
{
	bool skip = false;

	if (class.kind == SN_DIFF_NONE)
		return false;
	if (only)
		return class.kind == only->kind && class.reason == only->reason;
	for (unsigned i = 0; i < d->ignores; i++)
		skip |= sn_diff_class_is(class, d->ignore[i]);
	for (unsigned i = 0; i < d->knowns; i++)
		skip |= class.kind == d->known[i].kind && class.reason == d->known[i].reason;
	d->skipped += skip;
	return !skip;
}

bool sn_diff_case_run(struct sn_diff *d, const struct sn_diff_case *c, bool whole,
                      const struct sn_diff_class *only, struct sn_diff_found *found)
{
	struct sn_diff_stage *s = &d->stage[c->stage];
	uint32_t reports = d->walker.declared.reports;
	struct snest_walk ours[SN_DIFF_QUESTIONS];
	const struct snest_walker_answer *theirs;
	struct sn_diff_class last = {SN_DIFF_NONE, 0};
	enum sn_diff_end ended;
	unsigned answered;
	bool any = false;

	sn_diff_case_load(d, c, whole);
	s->stage.root = c->root;
	s->stage.root_high = c->root_high;
	sn_diff_walker_ask(&d->walker, &s->stage, s->high, c);
	/* While the other one works. */
	for (unsigned i = 0; i < c->questions; i++)
		walk(d, s, &c->question[i], &ours[i]);
	ended = sn_diff_walker_answers(&d->walker, &theirs);
	answered = ended == SN_DIFF_DONE ? c->questions : d->walker.at;
	d->asked += only ? 0 : c->questions;
	for (unsigned i = 0; i < answered && i < c->questions && !any; i++) {
		struct sn_diff_class class = compare(reports, &ours[i], &theirs[i]);

		d->compared += !only && theirs[i].outcome != SNEST_WALKER_UNKNOWN;
		any = wanted(d, class, only);
		if (any)
			*found = (struct sn_diff_found){class, i};
	}
	if (any)
		return true;
	switch (ended) {
	case SN_DIFF_DONE:
		if ((reports & SNEST_WALKER_UPDATES) && !memory_same(d))
			last.kind = SN_DIFF_MEMORY;
		break;
	case SN_DIFF_FAILED:
		last.kind = SN_DIFF_ERROR;
		break;
	case SN_DIFF_CRASHED:
		last.kind = SN_DIFF_CRASH;
		break;
	case SN_DIFF_HUNG:
		last.kind = SN_DIFF_HANG;
		break;
	}
	*found = (struct sn_diff_found){last, answered < c->questions ? answered : 0};
	return wanted(d, last, only);
}

/* ---- Classes ---------------------------------------------------------------------- */

static const struct {
	const char *name, *sentence;
} kinds[SN_DIFF_KINDS] = {
	[SN_DIFF_NONE] = {"", "no difference"},
	[SN_DIFF_MISSED_FAULT] = {"missed-fault", "it translates what must fault"},
	[SN_DIFF_EXTRA_FAULT] = {"extra-fault", "it faults where there is a translation"},
	[SN_DIFF_ADDRESS] = {"address", "it translates to another address"},
	[SN_DIFF_SIZE] = {"size", "it reports another page size"},
	[SN_DIFF_RIGHTS] = {"rights", "it reports other rights"},
	[SN_DIFF_REASON] = {"reason", "it faults for another reason"},
	[SN_DIFF_LEVEL] = {"level", "it reports another level"},
	[SN_DIFF_MEMORY] = {"memory", "it leaves other accessed or dirty flags in memory"},
	[SN_DIFF_ERROR] = {"error", "it returns an error, or an outcome that is none"},
	[SN_DIFF_CRASH] = {"crash", "it crashes"},
	[SN_DIFF_HANG] = {"hang", "it does not answer"},
};

static const char *const reasons[] = {
	[SNEST_FAULT_NONE] = "",
	[SNEST_FAULT_INPUT_RANGE] = "input-range",
	[SNEST_FAULT_NON_CANONICAL] = "non-canonical",
	[SNEST_FAULT_DISABLED] = "disabled",
	[SNEST_FAULT_TABLE_ACCESS] = "table-access",
	[SNEST_FAULT_NOT_PRESENT] = "not-present",
	[SNEST_FAULT_RESERVED] = "reserved",
	[SNEST_FAULT_LEVEL] = "level",
	[SNEST_FAULT_ADDRESS_SIZE] = "address-size",
	[SNEST_FAULT_READ] = "read",
	[SNEST_FAULT_WRITE] = "write",
	[SNEST_FAULT_EXECUTE] = "execute",
	[SNEST_FAULT_PRIVILEGE] = "privilege",
	[SNEST_FAULT_ACCESS_FLAG] = "access-flag",
	[SNEST_FAULT_DIRTY_FLAG] = "dirty-flag",
	[SNEST_FAULT_UPDATE] = "update",
};

#define REASONS (sizeof(reasons) / sizeof(reasons[0]))

const char *sn_diff_class_text(struct sn_diff_class class, char buf[SN_DIFF_NAME])
{
	snprintf(buf, SN_DIFF_NAME, "%s%s%s", kinds[class.kind].name, class.reason ? ":" : "",
	         class.reason < REASONS ? reasons[class.reason] : "other");
	return buf;
}

const char *sn_diff_kind_sentence(enum sn_diff_kind kind)
{
	return kinds[kind].sentence;
}

bool sn_diff_class_is(struct sn_diff_class class, const char *name)
{
	char text[SN_DIFF_NAME];

	return !strcmp(kinds[class.kind].name, name) ||
	       !strcmp(sn_diff_class_text(class, text), name);
}

bool sn_diff_class_known(const char *name)
{
	for (unsigned kind = SN_DIFF_NONE + 1; kind < SN_DIFF_KINDS; kind++) {
		bool by_reason = kind == SN_DIFF_MISSED_FAULT || kind == SN_DIFF_REASON ||
		                 kind == SN_DIFF_LEVEL;

		for (unsigned reason = 0; reason < (by_reason ? REASONS : 1); reason++) {
			if (sn_diff_class_is(differ((enum sn_diff_kind)kind, reason), name))
				return true;
		}
	}
	return false;
}
