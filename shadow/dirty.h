/* SPDX-License-Identifier: MIT */
/*
 * The dirty log: which pages devices may have written, by IOVA of a space and
 * by GPA over the VM. While it is on, leaves are filled without write rights
 * until a write asks; that write marks its page and gets a 4 KiB leaf.
 */
#ifndef SN_SHADOW_DIRTY_H
#define SN_SHADOW_DIRTY_H

#include "shadow/space.h"

/* Marks the page of a write, in the space's log and the VM's. Any thread, inside a read section. */
void sn_dirty_mark(struct snest_space *space, uint64_t iova, uint64_t gpa);

/* The same for every page that iova .. iova + length - 1 touches; nothing when no log is on. */
void sn_dirty_mark_range(struct snest_space *space, uint64_t iova, uint64_t gpa, uint64_t length);

/* Frees a space's log. Nobody reaches the space any more. */
void sn_dirty_fini(struct snest_space *space);

#endif
