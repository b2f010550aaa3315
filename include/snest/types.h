/* SPDX-License-Identifier: MIT */
/*
 * Words, numbers and errors that every part of snest's public interface uses.
 *
 * Errors. Functions return 0 (or a count) on success and a negative errno on
 * failure; a failed call changes nothing. Each errno has one meaning:
 *
 *   -EINVAL      understood and wrong: an impossible value or combination
 *   -EOPNOTSUPP  known, but this build or this object does not support it
 *   -ENOENT      no such id, device, region or range
 *   -EEXIST      overlaps something that is already there
 *   -EBUSY       still in use by somebody else
 *   -ENOMEM      the allocator refused
 *   -ENOSPC      over a budget or a limit that the embedder set
 *   -EFAULT      guest memory is not there, or may not be accessed that way
 *   -E2BIG       a structure is larger than known and its unknown tail is not 0
 *   -EACCES      the request faults; the result says why
 *   -ETIME       did not happen in the time that was given
 *   -EAGAIN      stopped at the caller's budget; call again to go on
 *   -EDEADLK     would wait for the calling thread itself
 *
 * A translation that faults is not an error of the call: the call returns 0
 * and the result says why (struct snest_fault).
 *
 * Structures that may grow start with `size`, which the caller sets to
 * sizeof(the structure it was compiled with). Fields beyond a smaller `size`
 * read as 0; a larger `size` is accepted when the unknown tail is all 0.
 *
 * Units. Addresses and lengths are bytes. `first` and `last` are inclusive
 * bounds. A suffix `_lg2` or `lg2` marks a size given as a power of two.
 */
#ifndef SNEST_TYPES_H
#define SNEST_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SNEST_API __attribute__((visibility("default")))
#else
#define SNEST_API
#endif

/* A PASID argument for a request that carries none. */
#define SNEST_NO_PASID UINT32_MAX

/* The deepest list of stages that a walk accepts, the host's own included. */
#define SNEST_MAX_STAGES 6

/* A stage number that means "none". */
#define SNEST_NO_STAGE 0xff

/*
 * Rights and kinds of access. SNEST_READ, SNEST_WRITE and SNEST_EXEC are both
 * what a request asks for and what a translation grants. SNEST_PRIVILEGED
 * only qualifies a request: it comes from a privileged (supervisor) context.
 */
#define SNEST_READ 0x1u
#define SNEST_WRITE 0x2u
#define SNEST_EXEC 0x4u
#define SNEST_PRIVILEGED 0x8u
#define SNEST_RIGHTS (SNEST_READ | SNEST_WRITE | SNEST_EXEC)

/* Why a translation faulted. Architecture-specific codes are derived from these. */
enum snest_fault_reason {
	SNEST_FAULT_NONE = 0,
	SNEST_FAULT_INPUT_RANGE,   /* the address is wider than the stage's input */
	SNEST_FAULT_NON_CANONICAL, /* upper address bits are not the sign extension */
	SNEST_FAULT_DISABLED,      /* this half of the address space is not translated */
	SNEST_FAULT_TABLE_ACCESS,  /* a table entry lies where there is no memory */
	SNEST_FAULT_NOT_PRESENT,   /* entry not present (invalid) */
	SNEST_FAULT_RESERVED,      /* reserved bit or encoding set */
	SNEST_FAULT_LEVEL,         /* bad level, page size or alignment encoding */
	SNEST_FAULT_ADDRESS_SIZE,  /* an output or table address is too wide */
	SNEST_FAULT_READ,          /* no right to read */
	SNEST_FAULT_WRITE,         /* no right to write */
	SNEST_FAULT_EXECUTE,       /* no right to execute */
	SNEST_FAULT_PRIVILEGE,     /* user access to a supervisor page or the reverse */
	SNEST_FAULT_ACCESS_FLAG,   /* accessed flag clear, hardware update off */
	SNEST_FAULT_DIRTY_FLAG,    /* dirty flag clear on a write, hardware update off */
	SNEST_FAULT_UPDATE,        /* accessed/dirty update needed and not possible */
	SNEST_FAULT_NO_HOST,       /* DMA helper met an address without host memory */
	SNEST_FAULT_CONFIG,        /* device or context structure; see `code` */
	SNEST_FAULT_BLOCKED,       /* the embedder or the front end blocks this request */
};

/*
 * A fault as data. `stage` is the stage that refused. When it refused while
 * the tables of an earlier stage were being read, `for_stage` and `for_level`
 * name that stage and the level of the entry that was wanted; else for_stage
 * is SNEST_NO_STAGE. Level 0 is the last level of a table (4 KiB pages in
 * most formats) in every format.
 */
struct snest_fault {
	uint8_t reason;      /* enum snest_fault_reason */
	uint8_t stage;       /* 0 is the stage nearest to the device */
	uint8_t level;       /* level of the entry that refused */
	uint8_t for_stage;   /* stage whose table was being read, or SNEST_NO_STAGE */
	uint8_t for_level;   /* level of the entry that was being read */
	uint8_t access;      /* SNEST_READ ... as the refusing stage saw it */
	uint16_t code;       /* architecture's fault code, 0 if none (front ends fill it) */
	uint64_t iova;       /* the address the device asked for */
	uint64_t input;      /* the same, as the refusing stage saw it (a GPA for stage 1 on) */
	uint64_t entry_addr; /* where the refusing entry was read, in the next stage's addresses */
	uint64_t entry;      /* its value; 0 if it could not be read */
};

/*
 * Short English text for a fault reason ("reserved bit set"). Never NULL.
 * Any thread, any time.
 */
SNEST_API const char *snest_fault_reason_name(unsigned reason);

#ifdef __cplusplus
}
#endif

#endif
