/* SPDX-License-Identifier: MIT */
/*
 * The VM object: owner of everything else, and the guest memory map.
 *
 * One VM object per virtual machine. It owns the memory map, the table pages
 * and every space, device and front end created in it; it has no globals and
 * two VMs never meet. Architecture: "Core" in docs/architecture.md.
 *
 * Read sections. Lookups and walks run inside an RCU read section. Functions
 * that need the caller to be in one say so; the others open their own, and
 * nesting is free of harm. A thread must not call a blocking function of
 * snest (one that says "waits for readers") inside a read section.
 */
#ifndef SNEST_VM_H
#define SNEST_VM_H

#include <snest/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct snest_vm;
struct snest_stage;

enum snest_log_level {
	SNEST_LOG_ERROR,
	SNEST_LOG_WARNING,
	SNEST_LOG_INFO,
	SNEST_LOG_DEBUG,
};

/*
 * What a VM takes from its surroundings. Every hook may be NULL, which selects
 * the default; alloc and free only together. Hooks may be called from any thread, also from snest's own
 * background thread, and must not call back into snest.
 */
struct snest_hooks {
	size_t size;  /* sizeof(struct snest_hooks) */
	void *opaque; /* handed to every hook */
	/*
	 * Memory for objects and tables: `size` bytes aligned to `align` (a
	 * power of two). NULL means out of memory. Default: the VM's jemalloc
	 * arena when built with it, else aligned_alloc.
	 */
	void *(*alloc)(void *opaque, size_t size, size_t align);
	void (*free)(void *opaque, void *ptr, size_t size);
	/* One line without newline. Default: errors and warnings to stderr. */
	void (*log)(void *opaque, enum snest_log_level level, const char *line);
	/* Monotonic time in nanoseconds. Default: CLOCK_MONOTONIC. */
	uint64_t (*now_ns)(void *opaque);
};

struct snest_vm_config {
	size_t size;                     /* sizeof(struct snest_vm_config) */
	const struct snest_hooks *hooks; /* copied; NULL: all defaults */
	uint64_t table_bytes_max;        /* budget of table memory; 0: no limit */
	/*
	 * NULL: the memory map is the host map, and a host address is what its
	 * regions say. Else the host map is a real second-stage table: this
	 * stage is put behind every list of stages, and the memory map
	 * describes what the stage's *output* addresses are. Copied.
	 */
	const struct snest_stage *host_stage;
};

/*
 * Creates a VM. `config` may be NULL for defaults. On success *vm is the new
 * VM, owned by the caller until snest_vm_destroy.
 * Errors: -EINVAL, -E2BIG, -ENOMEM (also when no thread can be started),
 * -EOPNOTSUPP (format of host_stage).
 * Any thread.
 */
SNEST_API int snest_vm_create(const struct snest_vm_config *config, struct snest_vm **vm);

/*
 * Destroys a VM and everything in it. Waits for readers, not for pins: those are
 * released before. Drains that were asked for complete. The caller makes sure that
 * no other thread uses the VM any more. Not inside a read section or a callback
 * of snest. NULL is ignored.
 */
SNEST_API void snest_vm_destroy(struct snest_vm *vm);

/*
 * Marks the calling thread as one that runs read sections. Needed once a
 * thread, before its first read section, when snest is built with rcu=memb or
 * rcu=qsbr; a no-op with rcu=bp. Unregister before the thread ends. These are
 * liburcu's own threads: an embedder that uses the same flavour of liburcu
 * registers a thread once, either way, and unregisters it the same way. With
 * rcu=qsbr a wait of the guest may complete without a change of threads as long
 * as all that look up were registered here.
 */
SNEST_API void snest_thread_register(void);
SNEST_API void snest_thread_unregister(void);

/*
 * rcu=qsbr only: the calling thread holds no result of a read section.
 * Registered threads must call this often; a no-op with other flavours.
 * A function of snest that waits for readers says it too.
 * offline/online bracket a time in which the thread runs no read section
 * (for example while it sleeps), so that it holds nobody up.
 */
SNEST_API void snest_thread_quiescent(void);
SNEST_API void snest_thread_offline(void);
SNEST_API void snest_thread_online(void);

/*
 * Opens and closes a read section of the calling thread. Sections nest, are
 * wait-free, and must be short: removed memory is freed, and guests' waits
 * complete, only after every section that was open has closed.
 * snest/read_inline.h has both without a call.
 */
SNEST_API void snest_read_begin(void);
SNEST_API void snest_read_end(void);

/* Name of the RCU flavour that was compiled in: "bp", "memb" or "qsbr". */
SNEST_API const char *snest_rcu_flavour(void);

/* Version of the library, "MAJOR.MINOR.PATCH". */
SNEST_API const char *snest_version(void);

/* ---- The guest memory map -------------------------------------------- */

#define SNEST_REGION_READONLY 0x1u  /* writes have no right, A/D updates fail */
#define SNEST_REGION_NO_TABLES 0x2u /* snest itself never reads tables here */

/*
 * How snest reads and writes a region that it must not dereference. Both
 * return 0 or a negative errno. They are called inside a read section, by any
 * thread. `cmpxchg64` replaces *expected by `desired` at `addr` (8 bytes,
 * naturally aligned, little-endian value) when it still holds it, and returns
 * -EAGAIN and the present value in *expected when not. A NULL function: that
 * kind of access fails in this region.
 */
struct snest_accessors {
	int (*read)(void *opaque, uint64_t addr, void *buf, size_t length);
	int (*write)(void *opaque, uint64_t addr, const void *buf, size_t length);
	int (*cmpxchg64)(void *opaque, uint64_t addr, uint64_t *expected, uint64_t desired);
	void *opaque;
};

/*
 * One region of guest memory. `first`, `last` + 1 and `host` are multiples of
 * 4096. GPAs are below 2^57, which is wider than any format's output; `host` +
 * (last - first) is below 2^52, the widest address that a shadow entry holds.
 */
struct snest_region {
	size_t size;    /* sizeof(struct snest_region) */
	uint64_t first; /* GPA */
	uint64_t last;  /* GPA, inclusive */
	uint64_t host;  /* host address of `first`; opaque to snest */
	/*
	 * Where snest itself may read and write `first` with plain loads and
	 * stores. NULL: through `accessors`, or not at all if that is NULL
	 * too. A multiple of 8. A user-space VMM usually gives the same address
	 * as `host`.
	 */
	void *mapping;
	const struct snest_accessors *accessors; /* copied; may be NULL */
	uint32_t flags;                          /* SNEST_REGION_* */
	uint32_t reserved;                       /* 0 */
};

enum snest_memory_op_kind {
	SNEST_MEMORY_ADD,     /* `region`; -EEXIST if it overlaps */
	SNEST_MEMORY_REMOVE,  /* first..last; regions are cut; -ENOENT if nothing is there */
	SNEST_MEMORY_REPLACE, /* `region`, in place of whatever it overlaps */
	SNEST_MEMORY_PROTECT, /* first..last become read-only (writable with flag 0) */
};

struct snest_memory_op {
	enum snest_memory_op_kind kind;
	uint32_t flags;             /* PROTECT: SNEST_REGION_READONLY or 0; else 0 */
	uint64_t first;             /* REMOVE, PROTECT */
	uint64_t last;              /* REMOVE, PROTECT; inclusive */
	struct snest_region region; /* ADD, REPLACE */
};

/* The most regions that one map holds. */
#define SNEST_MEMORY_REGIONS_MAX 65536

/*
 * Called once when nobody can use what a change took away, from snest's
 * background thread, in the order of the changes. It may call functions of
 * snest that do not wait for readers.
 */
typedef void (*snest_done_fn)(void *opaque);

/*
 * Applies `count` operations as one change: lookups see all or none of them.
 * Before it returns, the change has reached every shadow in the VM: no lookup
 * that begins later yields a removed or write-protected page.
 * With `done` NULL it also waits for readers: when it returns, no read section
 * and no pin that existed before uses what was removed. Else it returns at once
 * and `done(opaque)` is called at that point.
 * Cost: one copy of the region array (48 bytes a region), so load large maps
 * in batches; operations in ascending or descending order are cheapest.
 * Any thread; changes are serialised. Regions that touch are not joined.
 * Errors, with the index of the first bad operation in *failed if it is not
 * NULL (`count` if none is to blame), and nothing changed: -EINVAL (empty,
 * wrapping or unaligned range, bad flags), -E2BIG, -EEXIST, -ENOENT (REMOVE and
 * PROTECT), -ENOSPC (too many regions), -ENOMEM; -EDEADLK (`done` is NULL and
 * the wait would be for the caller itself: inside a read section, or in a
 * callback from snest's background thread).
 */
SNEST_API int snest_memory_update(struct snest_vm *vm, const struct snest_memory_op *ops,
                                  size_t count, size_t *failed, snest_done_fn done, void *opaque);

/* The four operations, one at a time and waiting for readers. Errors as above. */
SNEST_API int snest_memory_add(struct snest_vm *vm, const struct snest_region *region);
SNEST_API int snest_memory_remove(struct snest_vm *vm, uint64_t first, uint64_t last);
SNEST_API int snest_memory_replace(struct snest_vm *vm, const struct snest_region *region);
SNEST_API int snest_memory_protect(struct snest_vm *vm, uint64_t first, uint64_t last,
                                   uint32_t flags);

/*
 * Copies guest memory at `gpa` through the host map. The range may cross
 * regions. Not atomic beyond naturally aligned 8-byte words, which are copied
 * with one access each. Opens its own read section. Any thread.
 * Errors: -EFAULT if any byte is not readable (writable); what was copied
 * before is unspecified.
 */
SNEST_API int snest_guest_read(struct snest_vm *vm, uint64_t gpa, void *buf, size_t length);
SNEST_API int snest_guest_write(struct snest_vm *vm, uint64_t gpa, const void *buf, size_t length);

/* ---- Statistics ------------------------------------------------------- */

struct snest_vm_stats {
	size_t size;             /* sizeof(struct snest_vm_stats), set by the caller */
	uint64_t table_bytes;    /* table memory in use */
	uint64_t pool_bytes;     /* table memory held, free pages included */
	uint64_t object_bytes;   /* everything else that was allocated */
	uint64_t regions;        /* regions in the memory map */
	uint64_t memory_changes; /* changes of the memory map so far */
	uint64_t grace_periods;  /* grace periods waited for so far */
	uint64_t deferred;       /* objects whose release waits for readers */
	uint64_t arena_bytes;    /* what the VM's arena holds of the system; 0 without jemalloc */
};

/* Fills *stats. Any thread. Errors: -EINVAL, -E2BIG. */
SNEST_API int snest_vm_stats(struct snest_vm *vm, struct snest_vm_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
