/* SPDX-License-Identifier: MIT */
/*
 * Somebody else's table walker, as a plug-in that `snest difffuzz` compares
 * with snest's own.
 *
 * A plug-in is a shared object with one exported function, snest_walker_get,
 * which returns a struct snest_walker: what the walker claims to do, and four
 * functions that ask it. It needs this header and the two that it includes, and
 * links nothing of snest. examples/walker_wrong.c is a small one.
 *
 * snest difffuzz loads the plug-in into a process of its own and calls it there
 * from one thread. A plug-in may crash, hang or write where it should not: that
 * is a finding, and costs that process only. What it prints to standard output
 * goes to standard error.
 *
 * Errors are a negative errno. -EOPNOTSUPP: this walker has no such thing, which
 * is no finding. Everything else is one.
 */
#ifndef SNEST_WALKER_H
#define SNEST_WALKER_H

#include <snest/stage.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of this interface. It changes when a plug-in would have to change. */
#define SNEST_WALKER_VERSION 1u

/* The exported function's name, for dlsym. */
#define SNEST_WALKER_SYMBOL "snest_walker_get"

/* Bit of a format in `formats`, of an access (SNEST_READ | ...) in `accesses`. */
#define SNEST_WALKER_FORMAT(format) (1u << (format))
#define SNEST_WALKER_ACCESS(access) (1u << (access))
#define SNEST_WALKER_ALL_ACCESSES 0xffffu

/*
 * What a walker reports beside "translates, and to which address" or "faults".
 * Only what it claims is compared.
 */
#define SNEST_WALKER_SIZE 0x1u   /* lg2: size of the page */
#define SNEST_WALKER_RIGHTS 0x2u /* rights: what the table grants */
#define SNEST_WALKER_REASON 0x4u /* reason: why it faults */
#define SNEST_WALKER_LEVEL 0x8u  /* level: of the leaf, or of the entry that refused */
/* It sets accessed and dirty flags as the stage's flags say; memory is compared. */
#define SNEST_WALKER_UPDATES 0x10u
/* With UPDATES: a walk that faults leaves memory as it was. */
#define SNEST_WALKER_UPDATES_LATE 0x20u

/*
 * Guest memory. The same bytes may be seen at several addresses. The regions
 * and where their bytes are remain the same from `open` to `close`; the bytes
 * change before each `begin`, and by what the walker itself writes.
 */
struct snest_walker_region {
	uint64_t first; /* GPA of the first byte; a multiple of 64 KiB */
	uint64_t bytes; /* length; a multiple of 64 KiB */
	void *data;     /* the bytes, aligned to 64 KiB; may be read and written */
};

struct snest_walker_memory {
	size_t size; /* sizeof(struct snest_walker_memory) */
	const struct snest_walker_region *region;
	size_t count; /* of regions, which do not overlap */
	/*
	 * Copy `length` bytes out of, or into, memory at `gpa`. 0, or -EFAULT
	 * with nothing copied if not all of it is in one region. For walkers that
	 * do not want to look for the region themselves.
	 */
	int (*read)(const struct snest_walker_memory *memory, uint64_t gpa, void *buf,
	            size_t length);
	int (*write)(const struct snest_walker_memory *memory, uint64_t gpa, const void *buf,
	             size_t length);
};

enum snest_walker_outcome {
	SNEST_WALKER_FAULT = 0,
	SNEST_WALKER_TRANSLATED = 1, /* `gpa` is valid; memory need not be there */
	SNEST_WALKER_UNKNOWN = 2,    /* this walker cannot be asked that; not compared */
};

/* All 0 but for `size` when `translate` gets it. */
struct snest_walker_answer {
	size_t size;     /* sizeof(struct snest_walker_answer) */
	uint64_t gpa;    /* output address of exactly this input */
	uint8_t outcome; /* enum snest_walker_outcome */
	uint8_t lg2;     /* SNEST_WALKER_SIZE: bytes of the page, as a power of two */
	/* SNEST_WALKER_RIGHTS: SNEST_READ ... for the privilege of this request */
	uint8_t rights;
	uint8_t reason; /* SNEST_WALKER_REASON: enum snest_fault_reason */
	uint8_t level;  /* SNEST_WALKER_LEVEL: 0 is the level of the smallest pages */
	uint8_t reserved[3];
};

struct snest_walker {
	size_t size;       /* sizeof(struct snest_walker) */
	uint32_t version;  /* SNEST_WALKER_VERSION */
	uint32_t formats;  /* SNEST_WALKER_FORMAT(...) | ... */
	uint32_t accesses; /* SNEST_WALKER_ACCESS(...) | ...: the only ones it is asked */
	uint32_t reports;  /* SNEST_WALKER_SIZE | ... */
	/* Memory may be at GPAs below 2^memory_bits, at least 20; 0: anywhere. */
	uint32_t memory_bits;
	uint32_t reserved;
	const char *name; /* for messages */

	/*
	 * Prepares to walk tables of this shape in this memory. `stage` has no
	 * root yet. Its `flags` may be changed to those that this walker has; snest
	 * then walks with the changed flags too. *state is handed to the other
	 * functions; several shapes may be open at a time. `memory` and `stage`
	 * remain valid until `close`.
	 * Errors: -EOPNOTSUPP: no such tables, they are left out; others end
	 * the run. *why, if set, is a sentence that says why.
	 */
	int (*open)(const struct snest_walker_memory *memory, struct snest_stage *stage,
	            void **state, const char **why);
	/* Undoes `open`. NULL: nothing to do. */
	void (*close)(void *state);
	/*
	 * Memory holds new tables, with the top one at `root` (`root_high`: that
	 * of the upper half, Arm stage 1). Whatever was cached is void. 0, or an
	 * error.
	 */
	int (*begin)(void *state, uint64_t root, uint64_t root_high);
	/*
	 * Translates one input address for an access, SNEST_READ | ... |
	 * SNEST_PRIVILEGED, one of `accesses`. 0 with *answer filled, or an error.
	 */
	int (*translate)(void *state, uint64_t input, uint32_t access,
	                 struct snest_walker_answer *answer);
};

/*
 * What the plug-in defines and exports; nothing in snest does. The struct lives as
 * long as the plug-in is loaded. NULL: the walker cannot be used here.
 */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const struct snest_walker *
snest_walker_get(void);

#ifdef __cplusplus
}
#endif

#endif
