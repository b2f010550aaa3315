/* SPDX-License-Identifier: MIT */
/*
 * Making a differing case small (tools/difffuzz.h): fewer questions, fewer
 * entries, fewer set bits, a simpler address.
 *
 * Every step tries a candidate and keeps it if the two walkers still differ in
 * the same class. Steps are repeated until none of them helps.
 */
#include <stdlib.h>
#include <string.h>
#include "support/configs.h"
#include "tools/difffuzz.h"

#define ROUNDS 4
/*
 * A candidate that hangs costs the time that is waited for an answer: it gets a
 * fraction of the usual one, and there are only so many.
 */
#define HANG_MS 50
#define HANGS_MAX 150

struct reducer {
	struct sn_diff *d;
	struct sn_diff_case *best, *candidate;
	struct sn_diff_class class;
	struct sn_diff_found found; /* of `best` */
	unsigned hangs;
};

/* Makes `best` of the candidate if it still differs. */
static bool try(struct reducer *r)
{
	struct sn_diff_found found;

	if (r->hangs == HANGS_MAX || !sn_diff_case_run(r->d, r->candidate, true, &r->class, &found))
		return false;
	r->hangs += r->class.kind == SN_DIFF_HANG;
	sn_diff_case_copy(r->best, r->candidate);
	r->found = found;
	return true;
}

/* ---- Questions ------------------------------------------------------------------ */

static void keep_questions(struct reducer *r, unsigned first, unsigned count)
{
	sn_diff_case_copy(r->candidate, r->best);
	memmove(r->candidate->question, r->candidate->question + first,
	        count * sizeof(r->candidate->question[0]));
	r->candidate->questions = count;
}

static void fewer_questions(struct reducer *r)
{
	/* Alone, mostly. Else those in front have set flags that matter. */
	keep_questions(r, r->found.question, 1);
	if (try(r))
		return;
	for (unsigned i = 0; i < r->best->questions; i++) {
		keep_questions(r, i, 1);
		if (try(r))
			return;
	}
	for (unsigned i = r->best->questions; i-- > 0 && r->best->questions > 1;) {
		struct sn_diff_case *c = r->candidate;

		keep_questions(r, 0, r->best->questions);
		c->questions--;
		memmove(&c->question[i], &c->question[i + 1],
		        (c->questions - i) * sizeof(c->question[0]));
		try(r);
	}
}

/* ---- Entries -------------------------------------------------------------------- */

/* One record for each word that is not 0: the same memory. */
static void normalize(struct sn_diff_case *c)
{
	uint64_t *words = calloc(IMAGE_WORDS, sizeof(*words));
	size_t bytes = 0;

	if (!words)
		return;
	for (size_t at = 0; at + RECORD_BYTES <= c->bytes; at += RECORD_BYTES)
		words[fuzz_get(c->records + at, 2) % IMAGE_WORDS] =
			fuzz_get(c->records + at + 2, 8);
	for (size_t i = 0; i < IMAGE_WORDS; i++) {
		if (words[i])
			bytes = fuzz_record_add(c->records, bytes, sizeof(c->records), i, words[i]);
	}
	c->bytes = bytes;
	free(words);
}

/* Removes records in ever smaller pieces. Returns whether anything went. */
static bool fewer_records(struct reducer *r)
{
	size_t piece = r->best->bytes / RECORD_BYTES / 2;
	bool helped = false;

	if (!piece)
		piece = 1;
	for (;; piece /= 2) {
		size_t first = 0;

		while (first < r->best->bytes / RECORD_BYTES) {
			size_t count = r->best->bytes / RECORD_BYTES - first;
			uint8_t *at = r->candidate->records + first * RECORD_BYTES;

			if (count > piece)
				count = piece;
			sn_diff_case_copy(r->candidate, r->best);
			memmove(at, at + count * RECORD_BYTES,
			        r->best->bytes - (first + count) * RECORD_BYTES);
			r->candidate->bytes -= count * RECORD_BYTES;
			if (try(r))
				helped = true;
			else
				first += count;
		}
		if (piece == 1)
			return helped;
	}
}

static bool fewer_bits(struct reducer *r)
{
	bool helped = false;

	for (size_t i = 0; i < r->best->bytes / RECORD_BYTES; i++) {
		for (unsigned bit = 64; bit-- > 0;) {
			size_t at = i * RECORD_BYTES + 2;
			uint64_t word = fuzz_get(r->best->records + at, 8);

			if (!(word >> bit & 1))
				continue;
			sn_diff_case_copy(r->candidate, r->best);
			fuzz_put(r->candidate->records + at, 8, word & ~((uint64_t)1 << bit));
			helped |= try(r);
		}
	}
	return helped;
}

/* ---- Addresses ------------------------------------------------------------------ */

static bool clear_input(struct reducer *r, unsigned question, uint64_t bits)
{
	struct sn_diff_question *q = &r->candidate->question[question];

	if (!(r->best->question[question].iova & bits))
		return false;
	sn_diff_case_copy(r->candidate, r->best);
	q->iova &= ~bits;
	return try(r);
}

/*
 * Entries that the address leads to become the first of their tables: the
 * record moves, and the part of the address that selects it becomes 0. Which part
 * that is, is a guess from the sizes of pages and entries; a wrong one only fails.
 */
static bool first_entries(struct reducer *r, unsigned question)
{
	const struct snest_stage *stage = &r->d->stage[r->best->stage].stage;
	unsigned granule = test_config_granule_lg2(stage, 0), entry = test_config_entry_lg2(stage);
	unsigned width = granule - entry;
	bool helped = false;

	for (size_t i = 0; i < r->best->bytes / RECORD_BYTES; i++) {
		uint64_t word = fuzz_get(r->best->records + i * RECORD_BYTES, 2);
		uint64_t table = word & ~(((uint64_t)1 << (granule - 3)) - 1);

		if (word == table)
			continue;
		for (unsigned shift = granule; shift < 64; shift += width) {
			uint64_t part = (((uint64_t)1 << width) - 1) << shift;
			struct sn_diff_question *q = &r->candidate->question[question];

			/* At the top, everything above goes too: it may be a sign. */
			for (unsigned top = 0; top < 2; top++) {
				if (top)
					part |= ~(((uint64_t)1 << shift) - 1);
				if (!(r->best->question[question].iova & part))
					continue;
				sn_diff_case_copy(r->candidate, r->best);
				fuzz_put(r->candidate->records + i * RECORD_BYTES, 2, table);
				q->iova &= ~part;
				if (!try(r))
					continue;
				helped = true;
				shift = 64 - width;
				break;
			}
		}
	}
	return helped;
}

static bool simpler_questions(struct reducer *r)
{
	uint64_t high = r->d->stage[r->best->stage].high;
	bool helped = false;

	/* The same memory is at low addresses too. */
	if ((r->best->root | r->best->root_high) & high) {
		sn_diff_case_copy(r->candidate, r->best);
		r->candidate->root &= ~high;
		r->candidate->root_high &= ~high;
		helped |= try(r);
	}
	for (unsigned i = 0; i < r->best->questions; i++) {
		uint32_t access = r->best->question[i].access;

		helped |= clear_input(r, i, 0xfff) || clear_input(r, i, ~(uint64_t)0 << 48);
		for (unsigned bit = 64; bit-- > 0;)
			helped |= clear_input(r, i, (uint64_t)1 << bit);
		helped |= first_entries(r, i);
		/* Only what the walker can be asked. */
		for (unsigned a = 0; a < r->d->accesses; a++) {
			if ((r->d->access[a] & ~access) || r->d->access[a] == access)
				continue;
			sn_diff_case_copy(r->candidate, r->best);
			r->candidate->question[i].access = r->d->access[a];
			if (!try(r))
				continue;
			helped = true;
			access = r->d->access[a];
		}
	}
	return helped;
}

bool sn_diff_reduce(struct sn_diff *d, struct sn_diff_case *c, struct sn_diff_found *found)
{
	struct reducer r = {.d = d, .class = found->class, .found = *found};
	unsigned timeout_ms = d->walker.timeout_ms;
	struct sn_diff_found again;
	bool helped = true;

	r.best = malloc(sizeof(*r.best));
	r.candidate = malloc(sizeof(*r.candidate));
	if (r.best && r.candidate) {
		if (r.class.kind == SN_DIFF_HANG && timeout_ms > HANG_MS)
			d->walker.timeout_ms = HANG_MS;
		sn_diff_case_copy(r.best, c);
		normalize(r.best);
		fewer_questions(&r);
		for (unsigned round = 0; round < ROUNDS && helped; round++) {
			helped = fewer_records(&r);
			helped |= simpler_questions(&r);
			helped |= fewer_bits(&r);
		}
		d->walker.timeout_ms = timeout_ms;
		/* With the full time: what hangs must not only have been slow. */
		if (sn_diff_case_run(d, r.best, true, &r.class, &again)) {
			sn_diff_case_copy(c, r.best);
			*found = again;
			free(r.best);
			free(r.candidate);
			return true;
		}
	}
	free(r.best);
	free(r.candidate);
	if (!sn_diff_case_run(d, c, true, &found->class, &again))
		return false;
	*found = again;
	return true;
}
