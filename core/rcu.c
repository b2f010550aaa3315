/* SPDX-License-Identifier: MIT */
/*
 * The public face of the RCU flavour: threads and read sections for embedders.
 * What is not here or below is inlined from core/rcu.h.
 */
#include "core/rcu.h"

#include <pthread.h>
#include <snest/vm.h>
#include <time.h>

#ifdef SNEST_RCU_QSBR
/* For a thread's `ctr`, also where core/rcu.h calls liburcu instead of inlining it. */
#include <urcu/static/urcu-qsbr.h>
#endif

#ifdef SN_TSAN
char sn_rcu_tsan_edge;
#endif

/* ---- Grace periods without blocking ----------------------------------------- */

#ifdef SNEST_RCU_QSBR
/*
 * Less than it takes to wake a thread (5 to 13 us for the one that wakes it, on a
 * virtual machine). A reader that polls is quiescent every microsecond or two.
 */
#define POLL_NS 4000
/* Looks between two looks at the clock. */
#define POLL_LOOKS 8

__thread struct sn_rcu_record sn_rcu_record __attribute__((tls_model("initial-exec")));
uint64_t sn_rcu_epoch = 1;

static pthread_mutex_t members_lock = PTHREAD_MUTEX_INITIALIZER; /* a leaf */
static struct sn_rcu_record *members;
static bool outsiders; /* atomic; sticky */

void sn_rcu_join(void)
{
	struct sn_rcu_record *record = &sn_rcu_record;

	record->online = &URCU_TLS(urcu_qsbr_reader).ctr;
	record->member = true;
	pthread_mutex_lock(&members_lock);
	record->epoch = __atomic_load_n(&sn_rcu_epoch, __ATOMIC_ACQUIRE);
	record->next = members;
	record->prev = &members;
	if (members)
		members->prev = &record->next;
	members = record;
	pthread_mutex_unlock(&members_lock);
}

void sn_rcu_leave(void)
{
	struct sn_rcu_record *record = &sn_rcu_record;

	if (!record->member)
		return;
	pthread_mutex_lock(&members_lock);
	*record->prev = record->next;
	if (record->next)
		record->next->prev = record->prev;
	pthread_mutex_unlock(&members_lock);
	record->member = false;
}

void sn_rcu_outsider(void)
{
	if (sn_rcu_record.outsider || !urcu_qsbr_read_ongoing())
		return;
	__atomic_store_n(&outsiders, true, __ATOMIC_RELAXED);
	/*
	 * Pairs with the one in sn_rcu_poll. Each outsider has one of its own: that
	 * another one has said it already does not order what this one reads.
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	sn_rcu_record.outsider = true;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool has_passed(const struct sn_rcu_record *record, uint64_t epoch)
{
	return !__atomic_load_n(record->online, __ATOMIC_ACQUIRE) ||
	       __atomic_load_n(&record->epoch, __ATOMIC_ACQUIRE) >= epoch;
}

/* Under members_lock. */
static bool all_pass(uint64_t epoch)
{
	uint64_t until = 0;

	for (const struct sn_rcu_record *record = members; record; record = record->next) {
		for (unsigned looks = 0; !has_passed(record, epoch); looks++) {
			uint64_t now = looks % POLL_LOOKS ? 0 : now_ns();

			if (!until)
				until = now + POLL_NS;
			if (now >= until)
				return false;
			caa_cpu_relax();
		}
	}
	return true;
}

bool sn_rcu_poll(void)
{
	uint64_t epoch;
	bool passed;

	/* The caller itself is online: this would wait for it. */
	if (urcu_qsbr_read_ongoing() || pthread_mutex_trylock(&members_lock))
		return false;
	epoch = __atomic_add_fetch(&sn_rcu_epoch, 1, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	passed = !__atomic_load_n(&outsiders, __ATOMIC_RELAXED) && all_pass(epoch);
	pthread_mutex_unlock(&members_lock);
	if (passed)
		SN_RCU_TSAN_ACQUIRE();
	return passed;
}
#else
bool sn_rcu_poll(void)
{
	return false;
}
#endif

/* ---- Threads and read sections ------------------------------------------------ */

void snest_thread_register(void)
{
	sn_thread_register();
}

void snest_thread_unregister(void)
{
	sn_thread_unregister();
}

void snest_thread_quiescent(void)
{
#ifdef SNEST_RCU_QSBR
	SN_RCU_TSAN_RELEASE();
	urcu_qsbr_quiescent_state();
	if (sn_rcu_record.member)
		sn_rcu_repeat();
#endif
}

void snest_thread_offline(void)
{
	sn_thread_offline();
}

void snest_thread_online(void)
{
	sn_thread_online();
}

void snest_read_begin(void)
{
	sn_read_begin();
}

void snest_read_end(void)
{
	sn_read_end();
}

const char *snest_rcu_flavour(void)
{
	return SN_RCU_NAME;
}
