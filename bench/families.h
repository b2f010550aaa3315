/* SPDX-License-Identifier: MIT */
/* The families of benchmarks, and how their groups are named. */
#ifndef BENCH_FAMILIES_H
#define BENCH_FAMILIES_H

#include "bench/gbench.h"

void lookup_add(struct gb_suite *suite);
void threads_add(struct gb_suite *suite);
void sync_add(struct gb_suite *suite);
void map_add(struct gb_suite *suite);
void walk_add(struct gb_suite *suite);
void vtd_add(struct gb_suite *suite);
void guests_add(struct gb_suite *suite);
void memory_add(struct gb_suite *suite);

/* As printf, into the group's name. */
void group_name(struct gb_group *group, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* A number of pages as "1K", "64K", "1M". Returns buf. */
const char *size_name(char buf[16], uint64_t pages);
const char *numbered(char buf[32], const char *format, unsigned n)
	__attribute__((format(printf, 2, 0)));

#endif
