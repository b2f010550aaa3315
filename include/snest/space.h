/* SPDX-License-Identifier: MIT */
/*
 * Spaces and devices: the shadow, lookups in it, and what keeps it true.
 *
 * A space is one shadowed address space: an ordered list of stages over the
 * host map, and a shadow that remembers what they collapse to. Devices are
 * bound to spaces, by RID alone or by RID and PASID. A lookup that finds its
 * leaf takes no lock and stores nothing to shared memory; one that misses
 * walks the stages and fills.
 *
 * Contract. Between a change of a guest's table and the return of the
 * invalidation that announces it, the old and the new translation are both
 * legal. After the invalidation returned, every lookup that begins yields only
 * the new one. After a drain that began then, nobody uses the old one.
 *
 * Architecture: "The shadow", "Invalidation", "Drain" in docs/architecture.md.
 */
#ifndef SNEST_SPACE_H
#define SNEST_SPACE_H

#include <snest/stage.h>
#include <snest/vm.h>
#include <snest/walk.h>

#ifdef __cplusplus
extern "C" {
#endif

struct snest_space;
struct snest_device;

/* ---- Spaces ------------------------------------------------------------ */

/*
 * The guest's name for cached translations: VT-d DID and PASID, AMD DomainID
 * and PASID, SMMU VMID and ASID, RISC-V GSCID and PSCID. What a format does
 * not have is 0.
 */
struct snest_tag {
	uint32_t domain;
	uint32_t space;
};

/*
 * The guest announces new mappings too (class A): the space may be mirrored.
 * Others may with write tracking (snest/track.h).
 */
#define SNEST_SPACE_ANNOUNCED 0x1u

struct snest_space_config {
	size_t size;                      /* sizeof(struct snest_space_config) */
	const struct snest_stage *stages; /* copied */
	uint32_t count;                   /* 0: pass-through */
	uint32_t flags;                   /* SNEST_SPACE_* */
	struct snest_tag tag;
	uint64_t table_bytes_max; /* budget of this space's shadow; 0: the VM's only */
	/*
	 * Entries of the guest's tables that one sync of a mirror may read; 0:
	 * 2^28. What is beyond is unmapped and reported to the sink (-ENOSPC).
	 */
	uint64_t sync_entries_max;
};

/*
 * The space of these stages, tag and flags: the one that exists already, or a
 * new one. The caller gets a reference, to be given back with snest_space_put.
 * Any thread. Errors: -EINVAL, -EOPNOTSUPP, -E2BIG, -ENOMEM.
 */
SNEST_API int snest_space_get(struct snest_vm *vm, const struct snest_space_config *config,
                              struct snest_space **space);

/*
 * Gives a reference back. The last one detaches the sink (what it refuses to
 * let go of is lost: snest_space_unmirror says so) and frees the shadow in the
 * background. NULL is ignored. Any thread, not inside a read section.
 */
SNEST_API void snest_space_put(struct snest_space *space);

/* ---- Devices ------------------------------------------------------------ */

/*
 * Called on a lookup by a device (with this PASID or SNEST_NO_PASID) that is
 * bound to no space: finds and binds it (snest_device_bind) and returns 0; or
 * fills *fault and returns -EACCES: the request is refused. Inside a read
 * section; several threads at once.
 */
typedef int (*snest_resolve_fn)(void *opaque, struct snest_device *device, uint32_t pasid,
                                uint64_t iova, uint32_t access, struct snest_fault *fault);

/*
 * Creates the handle of requester `rid`. `resolve` may be NULL: an unbound
 * request is then refused with SNEST_FAULT_BLOCKED. One handle per rid and VM.
 * Errors: -EEXIST, -ENOMEM. Any thread.
 */
SNEST_API int snest_device_create(struct snest_vm *vm, uint32_t rid, snest_resolve_fn resolve,
                                  void *opaque, struct snest_device **device);

/*
 * Unbinds all and frees the handle once readers have gone, without waiting for
 * them. Lookups that began before may still use it; the caller makes sure that
 * none begins later. Any thread.
 */
SNEST_API void snest_device_destroy(struct snest_device *device);

/* The rid it was created with. Any thread. */
SNEST_API uint32_t snest_device_rid(const struct snest_device *device);

/* The handle of a rid, NULL if none. Valid inside the caller's read section. */
SNEST_API struct snest_device *snest_device_find(struct snest_vm *vm, uint32_t rid);

/*
 * Binds requests of the device with `pasid` (20 bits; SNEST_NO_PASID: without)
 * to a space, of which it takes a reference; NULL unbinds. Lookups that begin
 * after the return use the new binding; the caller drains before it lets the
 * guest believe so. Errors: -EINVAL (pasid), -ENOMEM (never for NULL).
 * Any thread; allowed inside a resolve function.
 */
SNEST_API int snest_device_bind(struct snest_device *device, uint32_t pasid,
                                struct snest_space *space);

/*
 * Unbinds every PASID, and the requests without one if `all`; as
 * snest_device_bind with NULL. Cost follows what is bound. Any thread.
 */
SNEST_API void snest_device_unbind_all(struct snest_device *device, bool all);

/* The space bound now, NULL if none. Valid inside the caller's read section. */
SNEST_API struct snest_space *snest_device_space(struct snest_device *device, uint32_t pasid);

/* ---- Lookups ------------------------------------------------------------ */

/* What a lookup yields. Valid inside the read section in which it was asked. */
struct snest_translation {
	uint64_t host;    /* host address of exactly this IOVA; the GPA if outcome is _GPA */
	uint64_t length;  /* bytes from here to the end of the leaf, at least 1 */
	uint32_t rights;  /* at least what was asked for */
	uint32_t outcome; /* enum snest_walk_outcome; FAULT: see the fault argument */
};

/*
 * Translates one IOVA for `access` (SNEST_READ, SNEST_WRITE, SNEST_EXEC;
 * SNEST_PRIVILEGED). The caller is inside a read section and uses the result
 * only there. A hit is wait-free. A miss walks guest memory and may take the
 * space's lock for the time of one store.
 * Returns 0 when *translation is a host address or a GPA; -EACCES when the
 * request faults, with *fault filled if fault is not NULL. A request for no
 * right finds what is there, and sets no accessed flag.
 * _pasid: the request carries `pasid` (SNEST_NO_PASID: none); _space: in this
 * space, whatever is bound to it. Any thread.
 */
SNEST_API int snest_translate(struct snest_device *device, uint64_t iova, uint32_t access,
                              struct snest_translation *translation, struct snest_fault *fault);
SNEST_API int snest_translate_pasid(struct snest_device *device, uint32_t pasid, uint64_t iova,
                                    uint32_t access, struct snest_translation *translation,
                                    struct snest_fault *fault);
SNEST_API int snest_space_translate(struct snest_space *space, uint64_t iova, uint32_t access,
                                    struct snest_translation *translation,
                                    struct snest_fault *fault);

/*
 * Translates `count` unrelated IOVAs, prefetching ahead. Element i of
 * `translations` has its own outcome; faults are not detailed. Returns the
 * number of elements that did not fault. As snest_translate otherwise.
 */
SNEST_API size_t snest_translate_batch(struct snest_device *device, const uint64_t *iovas,
                                       size_t count, uint32_t access,
                                       struct snest_translation *translations);

struct snest_host_range {
	uint64_t host;
	uint64_t length; /* bytes */
};

/*
 * Scatter: iova .. iova + length - 1 as a list of host ranges, contiguous ones
 * merged, at most `max` of them. Returns how many ranges were filled; *done is
 * the number of bytes they cover. When *done < length the list was full, or
 * the next byte faults (or has no host memory): then *fault says so if it is
 * not NULL, else its reason is SNEST_FAULT_NONE. As snest_translate otherwise.
 */
SNEST_API size_t snest_scatter(struct snest_device *device, uint64_t iova, uint64_t length,
                               uint32_t access, struct snest_host_range *ranges, size_t max,
                               uint64_t *done, struct snest_fault *fault);

/*
 * DMA: copies through translations, host memory by way of its region's mapping
 * or accessors, in ascending order. Opens its own read section; any thread.
 * *done, if not NULL, is the number of bytes copied, on errors too. 0, or
 * -EACCES with *fault if that is not NULL (SNEST_FAULT_NO_HOST when an address
 * has no host memory, _INPUT_RANGE behind the last address of all), or -EFAULT
 * (a region that cannot be read, or written, like that).
 */
SNEST_API int snest_dma_read(struct snest_device *device, uint32_t pasid, uint64_t iova, void *buf,
                             size_t length, size_t *done, struct snest_fault *fault);
SNEST_API int snest_dma_write(struct snest_device *device, uint32_t pasid, uint64_t iova,
                              const void *buf, size_t length, size_t *done,
                              struct snest_fault *fault);

/* ---- Invalidation -------------------------------------------------------- */

/* Hints. They may save work; correctness never depends on them. */
#define SNEST_INVALIDATE_LEAF 0x1u /* only leaves changed (IH, Leaf, !PDE) */

/*
 * Forgets (or, in a mirrored space, re-reads) everything that overlaps
 * first..last: whole leaves, and all leaves that came from one page of the
 * guest. A wrapped range (first > last) means all. When it returns, no lookup
 * that begins later sees the old translation. Any thread, not inside a read
 * section. Never fails and never allocates for unmirrored spaces; a mirrored
 * space reports a sink's failure (struct snest_sink) and returns it.
 */
SNEST_API int snest_space_invalidate(struct snest_space *space, uint64_t first, uint64_t last,
                                     uint32_t flags);

#define SNEST_ANY_SPACE UINT32_MAX

/*
 * The same for every space whose tag has this domain, and this `space` unless
 * that is SNEST_ANY_SPACE. Cost follows those spaces, not the devices. Each is
 * invalidated whatever others return; the first failure is returned.
 */
SNEST_API int snest_tag_invalidate(struct snest_vm *vm, struct snest_tag tag, uint64_t first,
                                   uint64_t last, uint32_t flags);

/* The same for the spaces a device is bound to (with `pasid`, or all if SNEST_ANY_PASID). */
#define SNEST_ANY_PASID (UINT32_MAX - 1)
SNEST_API int snest_device_invalidate(struct snest_device *device, uint32_t pasid, uint64_t first,
                                      uint64_t last, uint32_t flags);

/* The same for all spaces of the VM. */
SNEST_API int snest_vm_invalidate(struct snest_vm *vm, uint64_t first, uint64_t last,
                                  uint32_t flags);

/* ---- Drain and pins ------------------------------------------------------- */

/*
 * Waits until no lookup that began before the call is in use any more, and no
 * pin that existed is held. Blocks; not inside a read section.
 * Errors: -ETIME when a pin outlived `timeout_ns` (0: wait for ever); the pin
 * is logged, without a timeout after a second. -EDEADLK inside a read section
 * or a done function. -ENOMEM, for the first drain of a VM alone. Any thread.
 * Architecture: "Drain".
 */
SNEST_API int snest_drain(struct snest_vm *vm, uint64_t timeout_ns);

/*
 * The same without blocking: done(opaque) is called from snest's background
 * thread, in the order of the calls, without locks; what it does holds up all
 * other drains. Drains that wait at the same time share one grace period. `node`
 * is the caller's memory, snest's own until done is called. A pin that is never
 * released keeps it from being called: snest_shadow_stats says how old the
 * oldest is. Any thread, also inside a read section or a done function.
 */
struct snest_drain {
	void *private_[8];
};
SNEST_API void snest_drain_async(struct snest_vm *vm, struct snest_drain *node, snest_done_fn done,
                                 void *opaque);

/*
 * A translation held across asynchronous I/O. Memory is the caller's.
 */
struct snest_pin {
	struct snest_translation translation;
	void *private_[10];
};

/*
 * Translates and holds iova .. iova + length - 1, as far as one leaf goes:
 * pin->translation.length says how far. Until snest_unpin, no drain that
 * begins later completes, and what is pinned for writing counts as dirty at
 * every fetch of the dirty log. Walks the stages. Opens its own read section.
 * Any thread. Errors: -EACCES with *fault (if not NULL); -EINVAL (length 0).
 */
SNEST_API int snest_pin(struct snest_device *device, uint32_t pasid, uint64_t iova, uint64_t length,
                        uint32_t access, struct snest_pin *pin, struct snest_fault *fault);
/*
 * Releases; the memory is the caller's again. Once for each snest_pin that
 * returned 0, before the VM is destroyed. Any thread, also inside a read
 * section; calls no done function itself.
 */
SNEST_API void snest_unpin(struct snest_pin *pin);

/* ---- Mirror --------------------------------------------------------------- */

struct snest_sink_op {
	uint32_t map;    /* 1: map first..last to host.. with rights; 0: unmap it */
	uint32_t rights; /* SNEST_READ, SNEST_WRITE */
	uint64_t first;  /* IOVA */
	uint64_t last;   /* inclusive */
	uint64_t host;
};

#define SNEST_SINK_CAN_SPLIT 0x1u  /* an unmap may cut what one map made */
#define SNEST_SINK_UNMAP_ONLY 0x2u /* an observer (a cache): told what goes, never what comes */

/*
 * Where a mirrored space goes.
 */
struct snest_sink {
	size_t size; /* sizeof(struct snest_sink) */
	uint32_t flags;
	uint32_t reserved;
	void *opaque;
	/*
	 * Applies ops[0 .. count-1] in order. *done is the number that took
	 * effect, on errors too. An unmap names one or more earlier maps, whole
	 * unless CAN_SPLIT, without a gap. Called under the space's lock: must
	 * not call snest, nor wait for a thread that may be inside it.
	 * 0 or a negative errno (-ENOSPC: full).
	 */
	int (*apply)(void *opaque, const struct snest_sink_op *ops, size_t count, size_t *done);
	/*
	 * Told when the sink lacks something that the guest has mapped
	 * (-ENOSPC, -ENOMEM, what apply returned). May be NULL. Same rules.
	 * What the sink refused to unmap is not used by lookups, logged, and
	 * asked for again by every command that touches it.
	 */
	void (*failed)(void *opaque, uint64_t first, uint64_t last, int error);
};

/*
 * Attaches a sink (copied), and populates it with everything that is mapped for
 * requests without privilege. The sink's own writes are not seen here: accessed
 * and dirty flags of the guest's tables stay as they are for them. Any thread,
 * not inside a read section. Architecture: "Mirrors".
 * Errors: -EOPNOTSUPP (the guest does not announce maps and write tracking is
 * off), -EBUSY (has one already), -EINVAL, -E2BIG, -ENOMEM; what apply
 * returned, with nothing left in the sink.
 */
SNEST_API int snest_space_mirror(struct snest_space *space, const struct snest_sink *sink);

/*
 * Detaches the sink: unmaps what is mapped, and calls it no more once this has
 * returned. Any thread, not inside a read section. Errors: -ENOENT (has none);
 * what apply returned first: the sink is detached all the same, and still holds
 * what it refused to unmap.
 */
SNEST_API int snest_space_unmirror(struct snest_space *space);

/* ---- Dirty log ------------------------------------------------------------ */

/*
 * Starts (stops) logging which pages devices may write, over the whole VM, by
 * IOVA in each space and by GPA. While it is on, the first write to a page
 * after it was fetched is a miss; lookups for reading, and all lookups while it
 * is off, cost what they always do. By GPA the log also has what snest itself
 * writes: accessed and dirty flags, completions, records, snest_guest_write.
 * Writes that a kernel or hardware makes through a mirror are not seen here:
 * that sink has a log of its own.
 * Starting waits for readers, so that what began before is not missed; not
 * inside a read section. Stopping forgets what was not fetched.
 * Errors: -EBUSY (on already), -ENOENT (not on), -ENOMEM, -EDEADLK.
 */
SNEST_API int snest_dirty_start(struct snest_vm *vm);
SNEST_API int snest_dirty_stop(struct snest_vm *vm);

#define SNEST_DIRTY_PEEK 0x1u /* leave the log as it is */

/*
 * Sets bit i of `bitmap` (of 64-bit words, never cleared here) when the page
 * at first + i * 4096 was written, or is pinned for writing, since the log
 * began or since the last fetch; and forgets it, unless SNEST_DIRTY_PEEK.
 * When it returns, every write that a lookup before allowed has been made:
 * it waits for readers (not with PEEK). first and last + 1 are multiples of
 * 4096. *pages, if not NULL, is the number of bits that were found set.
 * Errors: -EINVAL, -ENOENT (not on), -EDEADLK (inside a read section).
 */
SNEST_API int snest_space_dirty(struct snest_space *space, uint64_t first, uint64_t last,
                                uint32_t flags, uint64_t *bitmap, uint64_t *pages);
/* The same by GPA. */
SNEST_API int snest_vm_dirty(struct snest_vm *vm, uint64_t first, uint64_t last, uint32_t flags,
                             uint64_t *bitmap, uint64_t *pages);

/* ---- Looking inside -------------------------------------------------------- */

/*
 * All runs of the shadow in first..last, of what requests without privilege
 * find, without side effects, while readers and writers go on. A run is what
 * was there at one moment; two runs may be of different moments. visit is
 * called inside a read section; a value other than 0 ends it and is returned.
 * Any thread; opens its own read section. Errors: -EINVAL (first > last).
 */
SNEST_API int snest_space_enumerate(struct snest_space *space, uint64_t first, uint64_t last,
                                    snest_run_fn visit, void *opaque);

/* ---- Statistics ------------------------------------------------------------ */

/*
 * Numbers are totals so far unless they say "now". Lookups that hit are not
 * counted, because counting would store to memory that readers share; a caller
 * knows how many it made, and docs/tracing.md shows how to count from outside.
 */
struct snest_space_stats {
	size_t size;          /* sizeof(struct snest_space_stats), set by the caller */
	uint64_t table_bytes; /* shadow tables in use now */
	uint64_t leaves_published;
	uint64_t misses; /* requests that walked the stages; pins do too */
	uint64_t fills;
	uint64_t fills_dropped; /* not published: an invalidation or memory change overlapped */
	uint64_t faults;        /* misses that were refused */
	uint64_t invalidations;
	uint64_t invalidations_all; /* of them, those of the whole space */
	uint64_t leaves_dropped;    /* whole tables count as one; mirrors: see sink_unmaps */
	uint64_t over_invalidated;  /* leaves dropped beyond the range asked for */
	uint64_t evictions;         /* shadows dropped to stay in the budget */
	uint64_t sink_maps, sink_unmaps, sink_batches, sink_pages, sink_errors;
	uint64_t table_pages; /* pages of guest memory whose writes are tracked for it now */
	uint64_t notices;     /* of snest_table_written that concerned it */
	uint64_t leaves;      /* entries of the shadow that map something, now */
};
/*
 * Fills *stats. Any thread. Takes the space's lock, and counts the leaves under
 * it: cost follows the tables. Errors: -EINVAL, -E2BIG.
 */
SNEST_API int snest_space_stats(struct snest_space *space, struct snest_space_stats *stats);

struct snest_device_stats {
	size_t size;      /* sizeof(struct snest_device_stats), set by the caller */
	uint64_t misses;  /* requests that walked the stages; pins do too */
	uint64_t faults;  /* requests that were refused */
	uint64_t unbound; /* requests that found no space bound */
	uint64_t binds, unbinds;
	uint64_t bound; /* PASIDs that are bound now; requests without one count as one */
	uint64_t pins;
};
/* Fills *stats. Any thread. Errors: -EINVAL, -E2BIG. */
SNEST_API int snest_device_stats(struct snest_device *device, struct snest_device_stats *stats);

/* The VM's spaces together; those that are gone count in what is a total. */
struct snest_shadow_stats {
	size_t size;              /* sizeof(struct snest_shadow_stats), set by the caller */
	uint64_t spaces, devices; /* now */
	uint64_t mirrors;         /* spaces with a sink now, observers included */
	uint64_t tracked_pages;   /* pages of guest memory that are protected now */
	uint64_t drains;          /* begun */
	uint64_t drains_waiting;  /* for pins, now */
	uint64_t pins_held;       /* now */
	uint64_t pin_oldest_ns;   /* how long the oldest of them has been held */
	struct snest_space_stats sum;
};
/* Fills *stats. Cost follows the spaces and devices. Any thread. Errors: -EINVAL, -E2BIG. */
SNEST_API int snest_shadow_stats(struct snest_vm *vm, struct snest_shadow_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
