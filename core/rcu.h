/* SPDX-License-Identifier: MIT */
/*
 * The RCU flavour: read sections, publication, grace periods.
 *
 * Chosen when building (meson option rcu=bp|memb|qsbr) and inlined, so that a
 * read section of the default flavour costs two stores to the thread's own
 * line and no call. Only core/ waits for grace periods (core/reclaim.h); other
 * folders open read sections and publish pointers.
 *
 * ThreadSanitizer does not see liburcu's ordering, which comes from membarrier
 * and from code that is not instrumented. SN_RCU_TSAN_* state the one edge that
 * RCU promises and that the rest of snest relies on: everything a read section
 * did happens before the end of a grace period that began while it was open.
 * The edge is drawn from *every* section that closed before the grace period
 * ended. That can hide a race only between the reclaimer and a section that
 * began after the unlink, and such a section cannot reach the object.
 */
#ifndef SN_CORE_RCU_H
#define SN_CORE_RCU_H

#include <stdbool.h>
#include <stdint.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SN_TSAN 1
#endif
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer) || \
	__has_feature(undefined_behavior_sanitizer)
#define SN_RCU_CALLS 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define SN_TSAN 1
#define SN_RCU_CALLS 1
#elif defined(__SANITIZE_ADDRESS__)
#define SN_RCU_CALLS 1
#endif

/*
 * Asks liburcu for its inlined read sections. Sanitizers must not look into
 * them: liburcu 0.13 wakes a grace period with plain accesses that race, and
 * gives urcu_bp_reader less than the alignment that it declares. Both are
 * harmless, and out of a sanitizer's sight when called in liburcu itself. The
 * static analyzer does not know that registering sets a thread's pointer.
 */
#if !defined(SN_RCU_CALLS) && !defined(__clang_analyzer__)
#define _LGPL_SOURCE
#endif
#if defined(SNEST_RCU_QSBR)
#include <urcu/urcu-qsbr.h>
#define SN_RCU_NAME "qsbr"
#define SN_RCU(name) urcu_qsbr_##name
#elif defined(SNEST_RCU_MEMB)
#include <urcu/urcu-memb.h>
#define SN_RCU_NAME "memb"
#define SN_RCU(name) urcu_memb_##name
#else
#include <urcu/urcu-bp.h>
#define SN_RCU_NAME "bp"
#define SN_RCU(name) urcu_bp_##name
#endif

#ifdef SN_TSAN
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
extern char sn_rcu_tsan_edge; /* only its address is used */
#define SN_RCU_TSAN_ACQUIRE() __tsan_acquire(&sn_rcu_tsan_edge)
#define SN_RCU_TSAN_RELEASE() __tsan_release(&sn_rcu_tsan_edge)
#else
#define SN_RCU_TSAN_ACQUIRE() ((void)0)
#define SN_RCU_TSAN_RELEASE() ((void)0)
#endif

#ifdef SNEST_RCU_QSBR
/*
 * A grace period that nobody has to sleep for. liburcu 0.13 can only block until
 * one is over, so a thread that must not block has to hand over to one that may,
 * and that costs tens of grace periods: 5 us to wake it, against 0.3 us.
 *
 * Each thread that is registered here repeats `sn_rcu_epoch` in its record when it
 * says that it is quiescent. Whether it is online is liburcu's own word, so it
 * does not matter which of the two is told of that. A poll moves the epoch on and
 * looks whether every thread is offline or has repeated the new one.
 *
 *     poller                                 reader
 *     ------                                 ------
 *     unlink                                 last section ends
 *     epoch++ (full barrier)                 e = epoch (acquire)
 *     record == epoch (acquire), or          record = e (release)
 *       offline (acquire)                    next section begins
 *
 * A record that repeats the epoch: what the reader did before is over, by the
 * release, and what it does next sees the unlink, by the acquire. Offline: the
 * same, by the full barriers that liburcu has on both sides of that.
 *
 * A thread that is registered with liburcu alone is an outsider, and has no record.
 * The first one that opens a read section ends all polling. Each says so in its
 * first section, and then has a full barrier, as the poller has one between the
 * unlink and its look at that.
 * (One that is not online there is no reader, here as for liburcu.)
 */
struct sn_rcu_record {
	struct sn_rcu_record *next, **prev; /* under the lock of the list */
	const unsigned long *online;        /* liburcu's; 0: offline */
	uint64_t epoch;                     /* atomic; written by the thread */
	bool member;                        /* the thread's own */
	bool outsider;                      /* the thread's own; it has ended all polling */
};

extern __thread struct sn_rcu_record sn_rcu_record __attribute__((tls_model("initial-exec")));
extern uint64_t sn_rcu_epoch; /* atomic */

void sn_rcu_join(void);
void sn_rcu_leave(void);
void sn_rcu_outsider(void);

static inline void sn_rcu_repeat(void)
{
	uint64_t epoch = __atomic_load_n(&sn_rcu_epoch, __ATOMIC_ACQUIRE);

	if (sn_rcu_record.epoch != epoch)
		__atomic_store_n(&sn_rcu_record.epoch, epoch, __ATOMIC_RELEASE);
}
#endif

/*
 * Have all read sections closed that are open now? False also where that cannot be
 * found out without blocking, which is always so but with qsbr. Spins for four
 * microseconds at most while the answer may still become yes. Not inside a read
 * section.
 */
bool sn_rcu_poll(void);

/*
 * The calling thread runs read sections: needed once a thread by memb and
 * qsbr; with bp the first read section registers.
 */
static inline void sn_thread_register(void)
{
#if defined(SNEST_RCU_QSBR)
	urcu_qsbr_register_thread();
	sn_rcu_join();
#elif defined(SNEST_RCU_MEMB)
	urcu_memb_register_thread();
#endif
}

static inline void sn_thread_unregister(void)
{
#if defined(SNEST_RCU_QSBR)
	SN_RCU_TSAN_RELEASE();
	sn_rcu_leave();
	urcu_qsbr_unregister_thread();
#elif defined(SNEST_RCU_MEMB)
	SN_RCU_TSAN_RELEASE();
	urcu_memb_unregister_thread();
#endif
}

/*
 * Brackets a time in which a registered thread holds nobody up. Only qsbr
 * counts a thread as a reader outside of its read sections.
 */
static inline void sn_thread_offline(void)
{
#ifdef SNEST_RCU_QSBR
	SN_RCU_TSAN_RELEASE();
	urcu_qsbr_thread_offline();
#endif
}

static inline void sn_thread_online(void)
{
#ifdef SNEST_RCU_QSBR
	urcu_qsbr_thread_online();
	sn_rcu_repeat();
#endif
}

/*
 * True where waiting for readers would wait for the caller itself. qsbr cannot
 * tell a read section from the time between two, so it is never true there.
 */
static inline bool sn_rcu_in_section(void)
{
#ifdef SNEST_RCU_QSBR
	return false;
#else
	return SN_RCU(read_ongoing)() != 0;
#endif
}

/*
 * Around any sleep that another thread's grace period may have to end: takes
 * an online qsbr thread offline, so that the two do not wait for each other.
 * Pass what sn_rcu_sleep_begin returned to sn_rcu_sleep_end.
 */
static inline bool sn_rcu_sleep_begin(void)
{
#ifdef SNEST_RCU_QSBR
	if (urcu_qsbr_read_ongoing()) {
		sn_thread_offline();
		return true;
	}
#endif
	return false;
}

static inline void sn_rcu_sleep_end(bool was_online)
{
	if (was_online)
		sn_thread_online();
}

/*
 * Does a read section of the calling thread protect what it reads? Not that of a
 * thread which is not registered, or offline. For code that can do without.
 */
static inline bool sn_rcu_may_read(void)
{
#if defined(SNEST_RCU_QSBR)
	return urcu_qsbr_read_ongoing();
#elif defined(SNEST_RCU_MEMB)
#if defined(SN_RCU_CALLS) || defined(__clang_analyzer__)
	return false;
#else
	return URCU_TLS(urcu_memb_reader).registered;
#endif
#else
	return true;
#endif
}

static inline void sn_read_begin(void)
{
#ifdef SNEST_RCU_QSBR
	if (__builtin_expect(!sn_rcu_record.member, 0))
		sn_rcu_outsider();
#endif
	SN_RCU(read_lock)();
}

static inline void sn_read_end(void)
{
	SN_RCU_TSAN_RELEASE();
	SN_RCU(read_unlock)();
}

/* Waits until every read section that is open now has closed. Blocks. Not inside a read section. */
static inline void sn_rcu_synchronize(void)
{
	SN_RCU(synchronize_rcu)();
	SN_RCU_TSAN_ACQUIRE();
}

/*
 * Publication: sn_publish pairs with sn_deref. The release orders the
 * initialisation of the object before the pointer that makes it reachable;
 * the acquire orders the reader's use of the object after its load.
 */
#define sn_publish(ptr, value) __atomic_store_n((ptr), (value), __ATOMIC_RELEASE)
#define sn_deref(ptr) __atomic_load_n((ptr), __ATOMIC_ACQUIRE)

#endif
