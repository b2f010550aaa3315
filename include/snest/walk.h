/* SPDX-License-Identifier: MIT */
/*
 * Reading tables that others wrote: one address, or all mapped runs of a range.
 *
 * Every entry is hostile: it is read exactly once with one atomic load,
 * checked, and bounded. Nothing here touches a shadow.
 * Architecture: "Walking" and "Collapse" in docs/architecture.md.
 */
#ifndef SNEST_WALK_H
#define SNEST_WALK_H

#include <snest/stage.h>
#include <snest/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

enum snest_walk_outcome {
	SNEST_WALK_HOST = 0,  /* leads to a host address */
	SNEST_WALK_GPA = 1,   /* translated, but no host memory is there: `gpa` says where */
	SNEST_WALK_FAULT = 2, /* see `fault` */
};

/* Attributes of a leaf, in one form for all formats. */
#define SNEST_ATTR_ACCESSED 0x100u
#define SNEST_ATTR_DIRTY 0x200u /* Arm: DBM is set and the page is writable */
#define SNEST_ATTR_GLOBAL 0x400u
#define SNEST_ATTR_USER 0x800u
#define SNEST_ATTR_SNOOP 0x1000u      /* VT-d SNP, AMD FC: force coherence */
#define SNEST_ATTR_DIRTIABLE 0x2000u  /* a write would have to set the dirty flag first */
#define SNEST_ATTR_CONTIGUOUS 0x4000u /* contiguous hint, NAPOT, AMD size code */
/* the format's own code: PAT|PCD|PWT, EMT, AttrIndx, MemAttr, PBMT */
#define SNEST_ATTR_MEMORY_TYPE 0xffu

/* What one stage contributed. */
struct snest_walk_stage {
	uint64_t input;      /* address that went in */
	uint64_t output;     /* address that came out */
	uint64_t entry;      /* the leaf entry, after an update of its flags */
	uint64_t entry_addr; /* where it was, in the next stage's addresses */
	uint32_t attr;       /* SNEST_ATTR_* */
	uint8_t level;       /* level of the leaf */
	uint8_t lg2;         /* its page size */
	uint8_t rights;      /* what this stage alone grants this request's privilege */
	uint8_t reserved;
};

struct snest_walk {
	uint8_t outcome; /* enum snest_walk_outcome */
	uint8_t stages;  /* entries of `stage` that are filled */
	/*
	 * The translation covers the naturally aligned block of 2^lg2 bytes
	 * around the IOVA: the smallest of the stages and of the host map. The
	 * host addresses of the block are contiguous.
	 */
	uint8_t lg2;
	uint8_t rights; /* intersection over stages and host map */
	uint32_t attr;  /* of stage 0; DIRTIABLE if it is set in any stage */
	uint64_t host;  /* host address of exactly this IOVA (SNEST_WALK_HOST) */
	uint64_t gpa;   /* output of the last stage for exactly this IOVA */
	struct snest_fault fault;
	struct snest_walk_stage stage[SNEST_MAX_STAGES];
};

/* One table entry that a walk read, in the order of reading. */
struct snest_walk_step {
	uint8_t stage; /* whose table */
	uint8_t level;
	uint8_t for_stage; /* read while this stage's table was sought, or SNEST_NO_STAGE */
	uint8_t for_level;
	uint32_t reserved;
	uint64_t entry_addr;
	uint64_t entry;
};

/*
 * Translates `iova` for `access` (SNEST_READ, _WRITE, _EXEC in any combination,
 * perhaps none; plus SNEST_PRIVILEGED) through
 * `count` stages, 0 to SNEST_MAX_STAGES, and the host map. All of *result is
 * filled. Accessed and dirty flags are updated where a stage's flags say that
 * the IOMMU does it, unless SNEST_WALK_NO_UPDATE is given.
 * A request for nothing asks what is there: no right is missing, nothing is
 * updated, but a table that faults for every access still faults.
 * steps: NULL, or where the entries read are listed, at most *nsteps of them;
 * *nsteps becomes the number that was read.
 * Opens its own read section. Any thread. Never blocks.
 * Errors: -EINVAL, -EOPNOTSUPP (a stage that snest_stage_check refuses).
 */
#define SNEST_WALK_NO_UPDATE 0x1u
SNEST_API int snest_walk(struct snest_vm *vm, const struct snest_stage *stages, unsigned count,
                         uint64_t iova, uint32_t access, uint32_t flags, struct snest_walk *result,
                         struct snest_walk_step *steps, size_t *nsteps);

/*
 * A maximal run: contiguous in IOVA and in the address it leads to, same
 * rights. `lg2` is the largest translation size in it.
 */
struct snest_run {
	uint64_t first;  /* IOVA */
	uint64_t last;   /* IOVA, inclusive */
	uint64_t addr;   /* host address, or GPA if outcome is SNEST_WALK_GPA */
	uint8_t outcome; /* SNEST_WALK_HOST or SNEST_WALK_GPA */
	uint8_t rights;
	uint8_t lg2;
	uint8_t first_lg2; /* the largest page of the first stage in it; 0: no stages */
	uint8_t reserved[4];
};

/* Returns 0 to go on; anything else stops the enumeration, which returns it. */
typedef int (*snest_run_fn)(void *opaque, const struct snest_run *run);

struct snest_walk_range {
	size_t size;     /* sizeof(struct snest_walk_range) */
	uint64_t first;  /* in: where to start. out: where to go on after -EAGAIN */
	uint64_t last;   /* inclusive */
	uint32_t access; /* SNEST_PRIVILEGED or 0: whose rights are reported */
	uint32_t flags;  /* 0 */
	/*
	 * Entries that this call may examine; 0 is no limit. 256 always get further,
	 * fewer perhaps not. A hostile table of one page can map 2^36 pages, so
	 * give a limit.
	 */
	uint64_t budget;
	uint64_t tables;  /* out: tables visited, added to what was there */
	uint64_t entries; /* out: entries examined, added to what was there */
};

/*
 * Calls `visit` for every mapped run in first..last, in ascending order.
 * Broken parts of the tables (faults) are skipped as if not mapped. Runs are
 * maximal within one call. Does not update accessed or dirty flags. Cost
 * follows the tables visited, not the range and not the pages.
 * `visit` is called inside a read section and must not block.
 * Returns 0 when `last` was reached; -EAGAIN when the budget ended before, with
 * range->first advanced (call again to go on); -ENOSPC when a budget below 256
 * ended before anything was found out about range->first, which stays, nothing
 * visited; what `visit` returned; or -EINVAL, -EOPNOTSUPP, -E2BIG. Any thread.
 */
SNEST_API int snest_walk_range(struct snest_vm *vm, const struct snest_stage *stages,
                               unsigned count, struct snest_walk_range *range, snest_run_fn visit,
                               void *opaque);

#ifdef __cplusplus
}
#endif

#endif
