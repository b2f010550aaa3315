/* SPDX-License-Identifier: MIT */
/*
 * Writing tables: the same formats, built and changed by one writer.
 *
 * For embedders that own a second stage, for tests, benchmarks and fuzzers.
 * A table is changed by one thread at a time; hardware or other threads may
 * walk it meanwhile and see, for each page, the old or the new translation.
 * Architecture: "Writing" in docs/architecture.md.
 */
#ifndef SNEST_TABLE_H
#define SNEST_TABLE_H

#include <snest/stage.h>
#include <snest/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

struct snest_table;

/*
 * Where table pages come from. A page's address, as entries hold it, is its
 * pointer plus `delta`. Only snest, and hardware that sets accessed and dirty
 * flags, may write to a page while it is in use.
 */
struct snest_table_memory {
	size_t size; /* sizeof(struct snest_table_memory) */
	/* 2^lg2 zeroed bytes, naturally aligned; NULL: out of memory */
	void *(*alloc)(void *opaque, unsigned lg2);
	/*
	 * Gives back a page that was unlinked and is zero again. A walk that
	 * began before may still be in it: if there are such walks, reuse it
	 * only when they have ended.
	 */
	void (*free)(void *opaque, void *page, unsigned lg2);
	void *opaque;
	uint64_t delta;
	/*
	 * Where a larger leaf took the place of a table, the table is cleared
	 * before it is given back. `settle` returns when no walk that began
	 * before the call uses it any more (after invalidating an IOTLB and its
	 * cache of table entries, for example). NULL: cleared at once; a walk
	 * at that moment may find a page of that range not present.
	 */
	void (*settle)(void *opaque);
};

/*
 * Creates an empty table of the shape that `shape` describes; its root fields
 * are ignored. `memory` is copied; NULL takes pages from the VM's pool, with
 * delta 0, counted against its budget, and lets go of them when the readers of
 * the VM have gone. *table is owned by the caller, who destroys it before the VM.
 * Errors: -EINVAL (also: an address of the memory does not fit into an entry),
 * -EOPNOTSUPP, -E2BIG, -ENOMEM, -ENOSPC. Any thread.
 */
SNEST_API int snest_table_create(struct snest_vm *vm, const struct snest_stage *shape,
                                 const struct snest_table_memory *memory,
                                 struct snest_table **table);

/* Unmaps all, gives all pages back. The caller makes sure that nobody walks it. NULL is ignored. */
SNEST_API void snest_table_destroy(struct snest_table *table);

/* The stage that reads this table: shape with its root filled in. Valid as long as the table. */
SNEST_API const struct snest_stage *snest_table_stage(const struct snest_table *table);

/* Sizes a leaf may have in this table, in either half: bit n is set for 2^n bytes. */
SNEST_API uint64_t snest_table_page_sizes(const struct snest_table *table);

/*
 * Maps first..last to `addr` onwards with `rights`, using the largest leaves
 * that alignment allows. `attr` is SNEST_ATTR_* of the new leaves, as far as
 * the format can hold them. first, last + 1 and addr must be multiples of the
 * smallest page (of the page asked for). What is mapped there already is an error, unless
 * SNEST_TABLE_REPLACE is given.
 * Errors, with nothing changed: -EINVAL (alignment, empty or wrapping range,
 * outside the table's input or output width, rights the format cannot say),
 * -EEXIST, -ENOMEM, -ENOSPC.
 */
#define SNEST_TABLE_REPLACE 0x1u
/* Only leaves of exactly this size, lg2; 0 any. */
#define SNEST_TABLE_PAGE(lg2) ((uint32_t)(lg2) << 8)
SNEST_API int snest_table_map(struct snest_table *table, uint64_t first, uint64_t last,
                              uint64_t addr, uint32_t rights, uint32_t attr, uint32_t flags);

/*
 * Unmaps first..last. A large leaf that the range only partly covers is cut
 * into smaller ones, which may need memory; with SNEST_TABLE_WHOLE it goes as
 * a whole instead, which never fails. *bytes, if not NULL, is what was unmapped.
 * Errors, with nothing changed: -EINVAL, -ENOMEM, -ENOSPC.
 */
#define SNEST_TABLE_WHOLE 0x2u
SNEST_API int snest_table_unmap(struct snest_table *table, uint64_t first, uint64_t last,
                                uint32_t flags, uint64_t *bytes);

/*
 * Cuts large leaves so that `at` starts a leaf (no translation changes), or
 * merges what became contiguous in first..last into the largest leaves that
 * lie wholly in it. Merging needs no memory. Where the IOMMU sets the dirty
 * flag, a writable merged leaf counts as accessed and dirty, since some of its
 * parts may be.
 * Errors: -EINVAL; cut: -ENOMEM, -ENOSPC.
 */
SNEST_API int snest_table_cut(struct snest_table *table, uint64_t at);
SNEST_API int snest_table_merge(struct snest_table *table, uint64_t first, uint64_t last);

/* Table pages in use, the root included, and bytes in them. */
SNEST_API uint64_t snest_table_bytes(const struct snest_table *table);

#ifdef __cplusplus
}
#endif

#endif
