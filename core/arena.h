/* SPDX-License-Identifier: MIT */
/*
 * Where memory comes from when the embedder gives no alloc hook.
 *
 * Built with jemalloc: one arena a VM, in a private copy of jemalloc whose
 * names nobody else sees. All of a VM's memory is counted there and is gone
 * when the arena is destroyed. Built without: the C library's allocator, and
 * the only arena is NULL. The embedder's malloc is untouched in both. Any
 * thread.
 */
#ifndef SN_CORE_ARENA_H
#define SN_CORE_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct sn_arena;

/* 0 or -ENOMEM. *result is NULL in a build without jemalloc. */
int sn_arena_create(struct sn_arena **result);

/* Frees all that is still allocated in it, where the build can. */
void sn_arena_destroy(struct sn_arena *arena);

/* align is a power of two. NULL: out of memory. */
void *sn_arena_alloc(struct sn_arena *arena, size_t size, size_t align);
void sn_arena_free(struct sn_arena *arena, void *ptr, size_t size);

/*
 * Asks the system to back this memory, which is whole huge pages, with huge pages.
 * Only a wish, which may cost memory that is never used; what was touched before
 * may stay as it is.
 */
void sn_arena_prefer_huge(void *ptr, size_t size);

/* Bytes that the arena holds of the system, its own bookkeeping included. 0 without jemalloc. */
uint64_t sn_arena_bytes(struct sn_arena *arena);

#endif
