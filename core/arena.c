/* SPDX-License-Identifier: MIT */
/*
 * Where memory comes from when the embedder gives no alloc hook: see
 * core/arena.h, and docs/memory.md for how to choose.
 */
#include "core/arena.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

void sn_arena_prefer_huge(void *ptr, size_t size)
{
#if defined(__linux__) && defined(MADV_HUGEPAGE)
	int saved = errno;

	madvise(ptr, size, MADV_HUGEPAGE);
	errno = saved;
#else
	(void)ptr;
	(void)size;
#endif
}

#ifdef SNEST_JEMALLOC

/*
 * The private copy of jemalloc (core/jemalloc-private.sh) has no header: its
 * functions are jemalloc's under other names, so that they can never meet
 * another jemalloc in the process.
 */
void *sn_je_mallocx(size_t size, int flags);
void sn_je_dallocx(void *ptr, int flags);
int sn_je_mallctl(const char *name, void *old, size_t *old_size, void *new, size_t new_size);

/* Parts of `flags` of these functions, as jemalloc's manual defines them. */
#define JE_ALIGN(align) __builtin_ctzl(align)
#define JE_TCACHE_NONE (1 << 8)
#define JE_ARENA(index) ((int)(((index) + 1) << 20))

struct sn_arena {
	unsigned index;
	int flags;
};

/*
 * No thread caches: they would hold on to memory of an arena that is to be
 * destroyed, and what snest allocates often comes from the pool anyway.
 */
static int flags_of(unsigned index)
{
	return JE_ARENA(index) | JE_TCACHE_NONE;
}

int sn_arena_create(struct sn_arena **result)
{
	struct sn_arena *arena;
	unsigned index;
	size_t size = sizeof(index);

	if (sn_je_mallctl("arenas.create", &index, &size, NULL, 0))
		return -ENOMEM;
	arena = sn_je_mallocx(sizeof(*arena), flags_of(index));
	if (!arena) {
		struct sn_arena empty = {.index = index};

		sn_arena_destroy(&empty);
		return -ENOMEM;
	}
	arena->index = index;
	arena->flags = flags_of(index);
	*result = arena;
	return 0;
}

void sn_arena_destroy(struct sn_arena *arena)
{
	char name[40];

	if (!arena)
		return;
	snprintf(name, sizeof(name), "arena.%u.destroy", arena->index);
	sn_je_mallctl(name, NULL, NULL, NULL, 0);
}

void *sn_arena_alloc(struct sn_arena *arena, size_t size, size_t align)
{
	return sn_je_mallocx(size, arena->flags | JE_ALIGN(align));
}

void sn_arena_free(struct sn_arena *arena, void *ptr, size_t size)
{
	(void)size;
	sn_je_dallocx(ptr, arena->flags);
}

uint64_t sn_arena_bytes(struct sn_arena *arena)
{
	uint64_t epoch = 1;
	size_t mapped = 0, size = sizeof(mapped);
	char name[48];

	/* jemalloc's statistics are a snapshot that this renews. */
	sn_je_mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch));
	snprintf(name, sizeof(name), "stats.arenas.%u.mapped", arena->index);
	if (sn_je_mallctl(name, &mapped, &size, NULL, 0))
		return 0;
	return mapped;
}

#else

int sn_arena_create(struct sn_arena **result)
{
	*result = NULL;
	return 0;
}

void sn_arena_destroy(struct sn_arena *arena)
{
	(void)arena;
}

void *sn_arena_alloc(struct sn_arena *arena, size_t size, size_t align)
{
	void *ptr;

	(void)arena;
	if (align < sizeof(void *))
		align = sizeof(void *);
	return posix_memalign(&ptr, align, size) ? NULL : ptr;
}

void sn_arena_free(struct sn_arena *arena, void *ptr, size_t size)
{
	(void)arena;
	(void)size;
	free(ptr);
}

uint64_t sn_arena_bytes(struct sn_arena *arena)
{
	(void)arena;
	return 0;
}

#endif
