/* SPDX-License-Identifier: MIT */
/*
 * Deferred work: what must happen after readers have gone.
 *
 * One background thread a VM takes everything that was queued, waits for one
 * grace period, and runs it in the order of queueing. So one grace period
 * serves all frees and drains that were waiting when it began, and nothing is
 * allocated to defer: the node is part of the object.
 *
 * Guarantee 1: `run(node)` is called once, after every read section that was
 *              open when sn_reclaim_defer was called has closed.
 * Guarantee 2: nodes run in the order they were queued, on one thread at a time.
 * Guarantee 3: run may queue further nodes; a long job does a bounded step,
 *              and queues itself again.
 *
 * sn_reclaim_defer: any thread, any lock of snest may be held (the queue's own
 * lock is a leaf). `run` is called without locks, outside read sections.
 */
#ifndef SN_CORE_RECLAIM_H
#define SN_CORE_RECLAIM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct sn_reclaim_node {
	struct sn_reclaim_node *next;
	void (*run)(struct sn_reclaim_node *node);
};

struct sn_reclaim {
	pthread_mutex_t lock; /* guards everything below but `grace_periods` */
	pthread_cond_t wake;  /* for the thread: something is queued, or stop */
	pthread_cond_t idle;  /* for sn_reclaim_barrier: `done` moved */
	struct sn_reclaim_node *head, **tail;
	bool woken; /* the thread has been told to take the queue */
	bool stop;
	uint64_t queued;        /* nodes ever queued */
	uint64_t done;          /* nodes ever run */
	unsigned waiting;       /* threads in sn_reclaim_barrier */
	uint64_t grace_periods; /* atomic, relaxed: a statistic */
	pthread_t thread;       /* constant after init */
	bool threadless;        /* constant after init: sn_reclaim_threadless */
	bool helping;           /* threadless: inside sn_reclaim_help */
};

/* Starts the thread, so that deferring cannot fail later. 0 or -ENOMEM. */
int sn_reclaim_init(struct sn_reclaim *reclaim);

/*
 * Runs everything that is queued (also what that queues), then ends the
 * thread. Blocks; not inside a read section, not from `run`.
 */
void sn_reclaim_fini(struct sn_reclaim *reclaim);

void sn_reclaim_defer(struct sn_reclaim *reclaim, struct sn_reclaim_node *node,
                      void (*run)(struct sn_reclaim_node *node));

/*
 * The same without waking the thread, which costs a system call: for memory that
 * can wait until somebody else defers something, waits, or calls sn_reclaim_wake.
 */
void sn_reclaim_defer_idly(struct sn_reclaim *reclaim, struct sn_reclaim_node *node,
                           void (*run)(struct sn_reclaim_node *node));
void sn_reclaim_wake(struct sn_reclaim *reclaim);

/*
 * Waits until everything queued before has run. Blocks; not inside a read
 * section, not from `run`. An online qsbr thread is offline meanwhile.
 */
void sn_reclaim_barrier(struct sn_reclaim *reclaim);

/* Whether sn_reclaim_barrier would wait for the calling thread itself, for ever. */
bool sn_reclaim_would_deadlock(const struct sn_reclaim *reclaim);

/*
 * For programs of one thread whose every run must be the same: fuzzers. A VM
 * that is created while this is set has no background thread. What is queued
 * runs when somebody would wait for it, all of whom call sn_reclaim_help before
 * they sleep, or when the program calls that itself; never inside
 * sn_reclaim_defer, whose caller may hold locks. There is no grace period, as
 * nobody else can be in a read section. Not for more than one thread.
 */
extern bool sn_reclaim_threadless;

/*
 * Runs what is queued, and what that queues, if the VM has no thread; else does
 * nothing. Without locks, outside read sections; inside `run` it does nothing.
 */
void sn_reclaim_help(struct sn_reclaim *reclaim);

/* Nodes queued and not yet run. */
uint64_t sn_reclaim_pending(struct sn_reclaim *reclaim);

#endif
