/* SPDX-License-Identifier: MIT */
/*
 * The dirty log: which pages devices may have written, by IOVA of a space and
 * by GPA over the VM.
 *
 * The rule that makes it exact: while the log is on, a leaf grants writing only
 * if its page is marked. So
 *
 *   - a fill for reading publishes no write right; a fill for writing marks its
 *     page first, and publishes one page only;
 *   - a fetch takes the marks, then withholds the write right of the leaves,
 *     then waits for readers: whoever found the right before has written by
 *     then, and whoever comes later marks the page for the next fetch;
 *   - a pin for writing is marked again by every fetch until it is released;
 *   - what snest itself writes (accessed and dirty flags, completions, records)
 *     is marked by GPA behind the write, in the write's read section.
 *
 * In a mirrored space, whose shadow is what the sink holds, writes never get
 * the right back while the log is on: each is a miss, and marks.
 */
#ifndef SN_SHADOW_DIRTY_H
#define SN_SHADOW_DIRTY_H

#include "shadow/space.h"

/*
 * Marks every page that iova .. iova + length - 1 touches, in the space's log
 * and, from gpa, in the VM's; nothing when the log is off. Any thread.
 */
void sn_dirty_mark(struct snest_space *space, uint64_t iova, uint64_t gpa, uint64_t length);

#endif
