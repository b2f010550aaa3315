/* SPDX-License-Identifier: MIT */
/*
 * The VM object, as the rest of snest sees it: hooks, pool, memory map,
 * deferred work. Everything here outlives every space, device and front end.
 *
 * Locks, outermost first: front end, memory map, indexes, space, reclaim, pool.
 * A lock may be taken while one before it in this list is held, never the
 * reverse.
 */
#ifndef SN_CORE_VM_H
#define SN_CORE_VM_H

#include <snest/space.h>
#include <snest/stage.h>
#include <snest/vm.h>
#include "core/log.h"
#include "core/memory.h"
#include "core/pool.h"
#include "core/rcu.h"
#include "core/reclaim.h"

struct sn_arena;
struct sn_shadow;

struct snest_vm {
	struct snest_hooks hooks; /* log and now_ns set; alloc and free NULL: the arena */
	struct sn_arena *arena;   /* NULL with the embedder's own alloc hook */
	struct sn_reclaim reclaim;
	struct sn_pool pool;
	struct sn_memory memory;
	struct snest_stage host_stage; /* format NONE: the memory map is the host map */
	struct sn_log_limit log_limit;
	uint64_t object_bytes;    /* atomic, relaxed */
	struct sn_shadow *shadow; /* shadow/'s own, made when first used; NULL before */
};

/*
 * Memory as the hook gives it: aligned, not cleared, not counted. For core/
 * itself and for root tables larger than the pool's pages; everybody else uses
 * sn_vm_alloc or the pool.
 */
void *sn_vm_memory_alloc(struct snest_vm *vm, size_t size, size_t align);
void sn_vm_memory_free(struct snest_vm *vm, void *ptr, size_t size);
/* See sn_arena_prefer_huge. Memory from an embedder's hook is the embedder's to advise. */
void sn_vm_memory_prefer_huge(struct snest_vm *vm, void *ptr, size_t size);

/* Memory for objects, zeroed, cache-line aligned; counted. NULL if the hook refuses. */
void *sn_vm_alloc(struct snest_vm *vm, size_t size);
/* size as given to sn_vm_alloc. NULL is ignored. */
void sn_vm_free(struct snest_vm *vm, void *ptr, size_t size);

static inline uint64_t sn_vm_now(struct snest_vm *vm)
{
	return vm->hooks.now_ns(vm->hooks.opaque);
}

/*
 * What core/ needs from folders below it. core/ states it, they define it, and
 * the linker joins the two, so that there is no pointer to set and none to
 * forget.
 *
 * walkers/: reads and writes through vm->host_stage. Copies `length` bytes at
 * `addr`, an input of the host stage. Inside a read section. 0 or -EFAULT.
 */
int sn_collapse_copy(struct snest_vm *vm, uint64_t addr, void *buf, size_t length, bool write);
/* shadow/: gives back every space and device. First step of destroying a VM. */
void sn_shadow_destroy(struct snest_vm *vm);
/*
 * shadow/: waits for readers, and for the pins that exist by then. Not where
 * sn_reclaim_would_deadlock.
 */
void sn_shadow_wait(struct snest_vm *vm);
/*
 * shadow/: snest itself wrote memory of the guest, which the dirty log has to
 * know. Addresses of the memory map. Inside the read section of the write.
 */
void sn_shadow_wrote(struct snest_vm *vm, uint64_t gpa, uint64_t length);
/*
 * shadow/: calls done(opaque) on the reclaim thread, which also has to be the
 * caller, when no pin that exists now is held any more; at once if there is
 * none. In the order of the calls. `node` is in use until then.
 */
void sn_shadow_after_pins(struct snest_vm *vm, struct snest_drain *node, snest_done_fn done,
                          void *opaque);

#endif
