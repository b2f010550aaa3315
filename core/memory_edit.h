/* SPDX-License-Identifier: MIT */
/*
 * Building the next memory map: operations applied in turn to a private copy.
 *
 * The copy is one array with a gap that moves to where the next operation
 * works, so that a batch in order of addresses copies each region twice at
 * most, and nothing is allocated after sn_memory_edit_begin but accessors. For
 * core/memory_update.c; the caller holds sn_memory.lock.
 */
#ifndef SN_CORE_MEMORY_EDIT_H
#define SN_CORE_MEMORY_EDIT_H

#include "core/memory.h"

struct sn_memory_edit {
	struct snest_vm *vm;
	struct sn_memory_map *map;
	size_t low;                 /* regions before the gap */
	size_t high;                /* index of the first region after it */
	struct sn_accessors *fresh; /* made by this edit */
};

/* Makes room for `count` operations on a copy of `old`. 0 or -ENOMEM. */
int sn_memory_edit_begin(struct sn_memory_edit *edit, struct snest_vm *vm,
                         const struct sn_memory_map *old, const struct snest_memory_op *ops,
                         size_t count);

/* Applies one operation. On failure the edit is only good for sn_memory_edit_drop. */
int sn_memory_edit_apply(struct sn_memory_edit *edit, const struct snest_memory_op *op);

/* The result, ready to be published; edit->fresh is the caller's to look after. */
struct sn_memory_map *sn_memory_edit_finish(struct sn_memory_edit *edit);

/* Gives up: frees the copy and what was made for it. */
void sn_memory_edit_drop(struct sn_memory_edit *edit);

/* An empty map with room for `capacity` regions. NULL: out of memory. */
struct sn_memory_map *sn_memory_map_alloc(struct snest_vm *vm, size_t capacity);
void sn_memory_map_free(struct sn_memory_map *map);

#endif
