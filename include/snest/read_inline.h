/* SPDX-License-Identifier: MIT */
/*
 * Read sections inlined into the embedder, for threads that look up millions of
 * times a second: the two calls that they save are a quarter of a lookup that
 * hits. Everybody else uses snest_read_begin and snest_read_end of snest/vm.h,
 * which mean the same; the two may be mixed.
 *
 * This header is not part of <snest/vm.h> because it asks for more: GNU C, the
 * headers of liburcu, a program that is linked with liburcu, and the flavour that
 * the library was built with. All of them come from the package snest-inline:
 *
 *   cc vmm.c $(pkg-config --cflags --libs snest-inline)
 *
 * liburcu is under the LGPL, which lets functions this small be inlined by any
 * program (docs/building.md).
 */
#ifndef SNEST_READ_INLINE_H
#define SNEST_READ_INLINE_H

#include <snest/vm.h>

/*
 * Sanitizers must not look into liburcu's sections, and what they have to be told
 * is in the library.
 */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer) || \
	__has_feature(undefined_behavior_sanitizer)
#define SNEST_READ_CALLS 1
#endif
#elif defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SNEST_READ_CALLS 1
#endif

#ifndef SNEST_READ_CALLS
#ifndef _LGPL_SOURCE
#define _LGPL_SOURCE
#endif
#if defined(SNEST_RCU_QSBR)
#include <urcu/urcu-qsbr.h>
#elif defined(SNEST_RCU_MEMB)
#include <urcu/urcu-memb.h>
#else
#include <urcu/urcu-bp.h>
#endif
#endif

/*
 * As snest_read_begin, without the call. Any thread that may call that. Cannot
 * fail. With rcu=qsbr this is still a call, in which a thread is noticed that is
 * registered with liburcu alone; the end of a section is nothing at all.
 */
static inline void snest_read_begin_inline(void)
{
#if defined(SNEST_READ_CALLS) || defined(SNEST_RCU_QSBR)
	snest_read_begin();
#elif defined(SNEST_RCU_MEMB)
	urcu_memb_read_lock();
#else
	urcu_bp_read_lock();
#endif
}

/* As snest_read_end, without the call. Closes a section that either of the two opened. */
static inline void snest_read_end_inline(void)
{
#if defined(SNEST_READ_CALLS)
	snest_read_end();
#elif defined(SNEST_RCU_QSBR)
	urcu_qsbr_read_unlock();
#elif defined(SNEST_RCU_MEMB)
	urcu_memb_read_unlock();
#else
	urcu_bp_read_unlock();
#endif
}

#endif
