/* SPDX-License-Identifier: MIT */
/* The dirty log; see dirty.h. */
#include "shadow/dirty.h"

void sn_dirty_mark(struct snest_space *space, uint64_t iova, uint64_t gpa)
{
	(void)space;
	(void)iova;
	(void)gpa;
}

void sn_dirty_mark_range(struct snest_space *space, uint64_t iova, uint64_t gpa, uint64_t length)
{
	(void)space;
	(void)iova;
	(void)gpa;
	(void)length;
}

void sn_dirty_fini(struct snest_space *space)
{
	(void)space;
}
