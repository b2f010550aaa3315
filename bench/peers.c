/* SPDX-License-Identifier: MIT */
/* The peers; see peers.h. */
#include "bench/peers.h"

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PEER_DOMAIN 7u

/* Whose page of which size: what tells the entries of a table for all devices apart. */
struct key {
	uint64_t page; /* number of the page of 2^lg2 bytes */
	uint32_t pasid;
	uint16_t rid;
	uint16_t lg2;
};

struct mapping {
	struct key key; /* hash */
	uint64_t first, last;
	uint64_t host;
	uint32_t rights;
	uint32_t domain;
	struct mapping *next; /* list */
};

struct peer {
	enum peer_kind kind;
	uint32_t pasid; /* of the device that looks up */
	uint16_t rid;
	pthread_mutex_t mutex;
	pthread_rwlock_t rwlock;
	GHashTable *hash;
	GTree *tree;
	struct mapping *list;
};

static const char *const names[] = {"hash 1024, mutex", "range tree", "ordered map, rwlock",
                                    "sorted list, rwlock"};

const char *peer_name(enum peer_kind kind)
{
	return names[kind];
}

static struct key key_of(const struct peer *peer, uint64_t iova, unsigned lg2)
{
	return (struct key){
		.page = iova >> lg2,
		.pasid = peer->pasid,
		.rid = peer->rid,
		.lg2 = (uint16_t)lg2,
	};
}

/* Pages in a row get hashes in a row, which suits the table's prime sizes best. */
static guint key_hash(gconstpointer opaque)
{
	const struct key *key = opaque;
	uint64_t wide = key->page ^ (uint64_t)key->rid << 40 ^ (uint64_t)key->lg2 << 56 ^
	                (uint64_t)key->pasid << 36;

	return (guint)(wide ^ wide >> 32);
}

static gboolean key_equal(gconstpointer a, gconstpointer b)
{
	const struct key *x = a, *y = b;

	return x->page == y->page && x->rid == y->rid && x->pasid == y->pasid && x->lg2 == y->lg2;
}

/* Ranges that overlap are equal, so that a lookup is a search for one address. */
static gint by_range(gconstpointer a, gconstpointer b, gpointer opaque)
{
	const struct mapping *x = a, *y = b;

	(void)opaque;
	return x->last < y->first ? -1 : x->first > y->last;
}

static gint by_start(gconstpointer a, gconstpointer b, gpointer opaque)
{
	const struct mapping *x = a, *y = b;

	(void)opaque;
	return x->first < y->first ? -1 : x->first > y->first;
}

struct peer *peer_create(enum peer_kind kind)
{
	struct peer *peer = must_alloc(sizeof(*peer), 64);

	memset(peer, 0, sizeof(*peer));
	peer->kind = kind;
	peer->rid = 8;
	pthread_mutex_init(&peer->mutex, NULL);
	pthread_rwlock_init(&peer->rwlock, NULL);
	if (kind == PEER_HASH)
		peer->hash = g_hash_table_new_full(key_hash, key_equal, NULL, g_free);
	else if (kind != PEER_LIST)
		peer->tree = g_tree_new_full(kind == PEER_TREE ? by_range : by_start, NULL, NULL,
		                             g_free);
	return peer;
}

void peer_destroy(struct peer *peer)
{
	if (peer->hash)
		g_hash_table_destroy(peer->hash);
	if (peer->tree)
		g_tree_destroy(peer->tree);
	while (peer->list) {
		struct mapping *next = peer->list->next;

		g_free(peer->list);
		peer->list = next;
	}
	pthread_rwlock_destroy(&peer->rwlock);
	pthread_mutex_destroy(&peer->mutex);
	free(peer);
}

void peer_insert(struct peer *peer, uint64_t first, unsigned lg2, uint64_t host, uint32_t rights)
{
	struct mapping *m = g_new(struct mapping, 1), **at = &peer->list;

	*m = (struct mapping){
		.key = key_of(peer, first, lg2),
		.first = first,
		.last = first + ((uint64_t)1 << lg2) - 1,
		.host = host,
		.rights = rights,
		.domain = PEER_DOMAIN,
	};
	switch (peer->kind) {
	case PEER_HASH:
		pthread_mutex_lock(&peer->mutex);
		if (g_hash_table_size(peer->hash) >= PEER_HASH_MAX)
			g_hash_table_remove_all(peer->hash);
		g_hash_table_replace(peer->hash, &m->key, m);
		pthread_mutex_unlock(&peer->mutex);
		break;
	case PEER_TREE:
		g_tree_replace(peer->tree, m, m);
		break;
	case PEER_MAP:
		pthread_rwlock_wrlock(&peer->rwlock);
		g_tree_replace(peer->tree, m, m);
		pthread_rwlock_unlock(&peer->rwlock);
		break;
	case PEER_LIST:
		pthread_rwlock_wrlock(&peer->rwlock);
		while (*at && (*at)->first < first)
			at = &(*at)->next;
		m->next = *at;
		*at = m;
		pthread_rwlock_unlock(&peer->rwlock);
		break;
	}
}

/* Does an entry belong to the domain and the range that a command names? */
static gboolean named(gpointer key, gpointer value, gpointer opaque)
{
	const struct mapping *m = value, *command = opaque;

	(void)key;
	return m->domain == command->domain && m->first <= command->last &&
	       command->first <= m->last;
}

void peer_remove(struct peer *peer, uint64_t first, unsigned lg2)
{
	struct mapping key = {
		.first = first,
		.last = first + ((uint64_t)1 << lg2) - 1,
		.domain = PEER_DOMAIN,
	};
	struct mapping **at = &peer->list, *gone;

	switch (peer->kind) {
	case PEER_HASH:
		pthread_mutex_lock(&peer->mutex);
		g_hash_table_foreach_remove(peer->hash, named, &key);
		pthread_mutex_unlock(&peer->mutex);
		break;
	case PEER_TREE:
		g_tree_remove(peer->tree, &key);
		break;
	case PEER_MAP:
		pthread_rwlock_wrlock(&peer->rwlock);
		g_tree_remove(peer->tree, &key);
		pthread_rwlock_unlock(&peer->rwlock);
		break;
	case PEER_LIST:
		pthread_rwlock_wrlock(&peer->rwlock);
		while (*at && (*at)->first != first)
			at = &(*at)->next;
		gone = *at;
		if (gone)
			*at = gone->next;
		g_free(gone);
		pthread_rwlock_unlock(&peer->rwlock);
		break;
	}
}

static int found(const struct mapping *m, uint64_t iova, uint32_t access,
                 struct snest_translation *t)
{
	if (!m || m->last < iova || m->first > iova)
		return -ENOENT;
	if ((m->rights & access) != access)
		return -EACCES;
	t->host = m->host + (iova - m->first);
	t->length = m->last - iova + 1;
	t->rights = m->rights;
	t->outcome = SNEST_WALK_HOST;
	return 0;
}

int peer_hash_translate(struct peer *peer, uint64_t iova, uint32_t access,
                        struct snest_translation *t)
{
	const struct mapping *m = NULL;
	int ret;

	pthread_mutex_lock(&peer->mutex);
	for (unsigned lg2 = 12; lg2 <= 30 && !m; lg2 += 9) {
		struct key key = key_of(peer, iova, lg2);

		m = g_hash_table_lookup(peer->hash, &key);
	}
	ret = found(m, iova, access, t);
	pthread_mutex_unlock(&peer->mutex);
	return ret;
}

int peer_tree_translate(struct peer *peer, uint64_t iova, uint32_t access,
                        struct snest_translation *t)
{
	const struct mapping key = {.first = iova, .last = iova};

	return found(g_tree_lookup(peer->tree, &key), iova, access, t);
}

int peer_map_translate(struct peer *peer, uint64_t iova, uint32_t access,
                       struct snest_translation *t)
{
	const struct mapping key = {.first = iova};
	GTreeNode *node;
	int ret;

	pthread_rwlock_rdlock(&peer->rwlock);
	/* The last one that starts at or before iova. */
	node = g_tree_upper_bound(peer->tree, &key);
	node = node ? g_tree_node_previous(node) : g_tree_node_last(peer->tree);
	ret = found(node ? g_tree_node_value(node) : NULL, iova, access, t);
	pthread_rwlock_unlock(&peer->rwlock);
	return ret;
}

int peer_list_translate(struct peer *peer, uint64_t iova, uint32_t access,
                        struct snest_translation *t)
{
	const struct mapping *m;
	int ret;

	pthread_rwlock_rdlock(&peer->rwlock);
	for (m = peer->list; m && m->last < iova; m = m->next)
		continue;
	ret = found(m, iova, access, t);
	pthread_rwlock_unlock(&peer->rwlock);
	return ret;
}
