/* SPDX-License-Identifier: MIT */
/*
 * Peers: how IOTLBs are usually built, on the containers of GLib and POSIX.
 *
 * hash   one hash table for all devices, keyed by page, requester, PASID and
 *        leaf size, under a mutex. A lookup tries the leaf sizes in turn. A
 *        command names a domain and a range, which are not the key, so it
 *        looks at all entries. When there are 1024 the table is emptied. As
 *        the software IOTLB of a well-known emulator is
 * tree   a balanced tree keyed by range, where ranges that overlap compare
 *        equal; no lock: the caller has one of its own or one thread
 * map    the same tree, ordered by start, under a reader-writer lock: what a
 *        VMM gets from its language's ordered map
 * list   a list sorted by start under a reader-writer lock, searched from its
 *        head, as user-space packet frameworks do
 *
 * The code here is written for these benchmarks; only the designs are known.
 */
#ifndef BENCH_PEERS_H
#define BENCH_PEERS_H

#include "bench/setup.h"

enum peer_kind {
	PEER_HASH,
	PEER_TREE,
	PEER_MAP,
	PEER_LIST
};

#define PEER_HASH_MAX 1024

struct peer;

struct peer *peer_create(enum peer_kind kind);
void peer_destroy(struct peer *peer);
const char *peer_name(enum peer_kind kind);

/* Adds first .. first + 2^lg2 - 1. */
void peer_insert(struct peer *peer, uint64_t first, unsigned lg2, uint64_t host, uint32_t rights);
void peer_remove(struct peer *peer, uint64_t first, unsigned lg2);

/* 0, or -ENOENT: not cached, or -EACCES. */
int peer_hash_translate(struct peer *peer, uint64_t iova, uint32_t access,
                        struct snest_translation *t);
int peer_tree_translate(struct peer *peer, uint64_t iova, uint32_t access,
                        struct snest_translation *t);
int peer_map_translate(struct peer *peer, uint64_t iova, uint32_t access,
                       struct snest_translation *t);
int peer_list_translate(struct peer *peer, uint64_t iova, uint32_t access,
                        struct snest_translation *t);

#endif
