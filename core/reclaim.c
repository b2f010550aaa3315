/* SPDX-License-Identifier: MIT */
/*
 * Deferred work: see core/reclaim.h for what it guarantees.
 *
 * Why each guarantee holds. The thread takes the whole queue under the lock
 * and waits for a grace period that begins after that, so every section that
 * was open when a node was queued is over when the node runs (1). The queue is
 * a list with a tail pointer, taken as a whole and run from its head by one
 * thread (2). Nodes that `run` queues land in the next list (3).
 */
#include "core/reclaim.h"

#include <errno.h>
#include <signal.h>

#include "core/rcu.h"

bool sn_reclaim_threadless;

static void run_all(struct sn_reclaim *reclaim, struct sn_reclaim_node *node)
{
	while (node) {
		/* The node may be freed, or queued again, by its own run. */
		struct sn_reclaim_node *next = node->next;

		node->run(node);
		node = next;
		pthread_mutex_lock(&reclaim->lock);
		reclaim->done++;
		if (reclaim->waiting)
			pthread_cond_broadcast(&reclaim->idle);
		pthread_mutex_unlock(&reclaim->lock);
	}
}

/* Takes the whole queue. Under the lock. */
static struct sn_reclaim_node *take(struct sn_reclaim *reclaim)
{
	struct sn_reclaim_node *list = reclaim->head;

	reclaim->woken = false;
	reclaim->head = NULL;
	reclaim->tail = &reclaim->head;
	return list;
}

static void *thread_main(void *arg)
{
	struct sn_reclaim *reclaim = arg;

	sn_thread_register();
	sn_thread_offline();
	for (;;) {
		struct sn_reclaim_node *list;
		bool stop;

		pthread_mutex_lock(&reclaim->lock);
		while (!reclaim->woken && !reclaim->stop)
			pthread_cond_wait(&reclaim->wake, &reclaim->lock);
		list = take(reclaim);
		stop = reclaim->stop;
		pthread_mutex_unlock(&reclaim->lock);
		if (!list && stop)
			break;
		if (!list)
			continue;

		sn_rcu_synchronize();
		__atomic_fetch_add(&reclaim->grace_periods, 1, __ATOMIC_RELAXED);
		sn_thread_online();
		run_all(reclaim, list);
		sn_thread_offline();
	}
	sn_thread_unregister();
	return NULL;
}

void sn_reclaim_help(struct sn_reclaim *reclaim)
{
	struct sn_reclaim_node *list;

	if (!reclaim->threadless || reclaim->helping)
		return;
	reclaim->helping = true;
	do {
		pthread_mutex_lock(&reclaim->lock);
		list = take(reclaim);
		pthread_mutex_unlock(&reclaim->lock);
		run_all(reclaim, list);
	} while (list);
	reclaim->helping = false;
}

int sn_reclaim_init(struct sn_reclaim *reclaim)
{
	sigset_t all, old;
	int ret;

	*reclaim = (struct sn_reclaim){.tail = &reclaim->head};
	pthread_mutex_init(&reclaim->lock, NULL);
	pthread_cond_init(&reclaim->wake, NULL);
	pthread_cond_init(&reclaim->idle, NULL);

	reclaim->threadless = sn_reclaim_threadless;
	if (reclaim->threadless)
		return 0;

	/* The embedder's signals are for the embedder's threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&reclaim->thread, NULL, thread_main, reclaim);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret) {
		pthread_cond_destroy(&reclaim->idle);
		pthread_cond_destroy(&reclaim->wake);
		pthread_mutex_destroy(&reclaim->lock);
		return -ENOMEM;
	}
	pthread_setname_np(reclaim->thread, "snest-reclaim");
	return 0;
}

void sn_reclaim_fini(struct sn_reclaim *reclaim)
{
	bool was_online;

	sn_reclaim_help(reclaim);
	pthread_mutex_lock(&reclaim->lock);
	reclaim->stop = true;
	pthread_cond_signal(&reclaim->wake);
	pthread_mutex_unlock(&reclaim->lock);

	was_online = sn_rcu_sleep_begin();
	if (!reclaim->threadless)
		pthread_join(reclaim->thread, NULL);
	sn_rcu_sleep_end(was_online);
	pthread_cond_destroy(&reclaim->idle);
	pthread_cond_destroy(&reclaim->wake);
	pthread_mutex_destroy(&reclaim->lock);
}

/* Under the lock. A thread that has been told already will look by itself. */
static void wake(struct sn_reclaim *reclaim)
{
	if (!reclaim->woken) {
		reclaim->woken = true;
		pthread_cond_signal(&reclaim->wake);
	}
}

/* Under the lock. */
static void append(struct sn_reclaim *reclaim, struct sn_reclaim_node *node,
                   void (*run)(struct sn_reclaim_node *node))
{
	node->next = NULL;
	node->run = run;
	*reclaim->tail = node;
	reclaim->tail = &node->next;
	reclaim->queued++;
}

void sn_reclaim_defer(struct sn_reclaim *reclaim, struct sn_reclaim_node *node,
                      void (*run)(struct sn_reclaim_node *node))
{
	pthread_mutex_lock(&reclaim->lock);
	append(reclaim, node, run);
	wake(reclaim);
	pthread_mutex_unlock(&reclaim->lock);
}

void sn_reclaim_defer_idly(struct sn_reclaim *reclaim, struct sn_reclaim_node *node,
                           void (*run)(struct sn_reclaim_node *node))
{
	pthread_mutex_lock(&reclaim->lock);
	append(reclaim, node, run);
	pthread_mutex_unlock(&reclaim->lock);
}

void sn_reclaim_wake(struct sn_reclaim *reclaim)
{
	pthread_mutex_lock(&reclaim->lock);
	if (reclaim->head)
		wake(reclaim);
	pthread_mutex_unlock(&reclaim->lock);
}

void sn_reclaim_barrier(struct sn_reclaim *reclaim)
{
	bool was_online = sn_rcu_sleep_begin();
	uint64_t ticket;

	sn_reclaim_help(reclaim);
	pthread_mutex_lock(&reclaim->lock);
	if (reclaim->head)
		wake(reclaim);
	ticket = reclaim->queued;
	reclaim->waiting++;
	while (reclaim->done < ticket)
		pthread_cond_wait(&reclaim->idle, &reclaim->lock);
	reclaim->waiting--;
	pthread_mutex_unlock(&reclaim->lock);
	sn_rcu_sleep_end(was_online);
}

bool sn_reclaim_would_deadlock(const struct sn_reclaim *reclaim)
{
	if (reclaim->threadless)
		return sn_rcu_in_section() || reclaim->helping;
	return sn_rcu_in_section() || pthread_equal(pthread_self(), reclaim->thread);
}

uint64_t sn_reclaim_pending(struct sn_reclaim *reclaim)
{
	uint64_t pending;

	pthread_mutex_lock(&reclaim->lock);
	pending = reclaim->queued - reclaim->done;
	pthread_mutex_unlock(&reclaim->lock);
	return pending;
}
