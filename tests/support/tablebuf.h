/* SPDX-License-Identifier: MIT */
/*
 * A few words of guest memory for hand-made tables, and assertions on what the
 * reference walker makes of them. Memory that was not written reads as 0 up to
 * the buffer's last byte; behind it there is none. For tests only.
 */
#ifndef TABLEBUF_H
#define TABLEBUF_H

#include "ref/ref_walk.h"

#define TABLEBUF_WORDS 64

struct tablebuf {
	uint64_t last; /* last byte of memory */
	bool read_only;
	unsigned writes; /* by walks */
	unsigned used;
	struct {
		uint64_t addr;
		uint64_t value;
	} word[TABLEBUF_WORDS];
};

void tablebuf_init(struct tablebuf *buf, uint64_t last);

/* Writes an entry, at any naturally aligned address; aborts when the buffer is full. */
void tablebuf_put(struct tablebuf *buf, uint64_t addr, uint64_t value);
void tablebuf_put32(struct tablebuf *buf, uint64_t addr, uint32_t value);
uint64_t tablebuf_get(const struct tablebuf *buf, uint64_t addr);

/* ref_walk() on the buffer, with updates. */
struct ref_result tablebuf_walk(struct tablebuf *buf, const struct snest_stage *stage,
                                uint64_t input, uint32_t access);

#define expect_ok(buf, stage, input, access, out_, lg2_, rights_)                \
	do {                                                                     \
		struct ref_result r_ = tablebuf_walk(buf, stage, input, access); \
		assert_int_equal(r_.reason, SNEST_FAULT_NONE);                   \
		assert_true(r_.ok);                                              \
		assert_int_equal(r_.out, out_);                                  \
		assert_int_equal(r_.lg2, lg2_);                                  \
		assert_int_equal(r_.rights, rights_);                            \
	} while (0)

#define expect_fault(buf, stage, input, access, reason_, level_)                 \
	do {                                                                     \
		struct ref_result r_ = tablebuf_walk(buf, stage, input, access); \
		assert_false(r_.ok);                                             \
		assert_int_equal(r_.reason, reason_);                            \
		assert_int_equal(r_.level, level_);                              \
	} while (0)

#endif
