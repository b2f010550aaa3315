/* SPDX-License-Identifier: MIT */
/*
 * What the resolvers of device structures share: a request being resolved,
 * reading structures, and how a fault of a stage is called by each
 * architecture.
 *
 * Used by walkers/device_*.c and by front ends. A struct sn_device lives on
 * the stack of one call, between sn_device_begin and sn_device_end, which
 * bracket a read section.
 */
#ifndef SN_WALKERS_DEVICE_H
#define SN_WALKERS_DEVICE_H

#include <snest/device.h>
#include "walkers/walk.h"

/* Words of the largest structure (VT-d PASID entry, STE, CD, extended DC). */
#define SN_DEVICE_WORDS_MAX 8

/*
 * How often a structure is read before it counts as unreadable. A guest that
 * follows its architecture clears the valid bit first and writes a structure
 * once, so the second pair of reads agrees.
 */
#define SN_DEVICE_TRIES 8

struct sn_device {
	struct snest_vm *vm;
	struct snest_request request;
	struct snest_context *context;
	struct sn_stages behind;         /* what structures are read through */
	unsigned guest_behind;           /* how many of them are the guest's: 0 or 1 */
	struct snest_stage stage_behind; /* that one */
	bool big_endian;                 /* structures are */
	struct sn_env env;
};

/*
 * Checks the request, whose rid is at most rid_max, clears the context and
 * opens the read section. 0, -EINVAL, -E2BIG; the read section is open only on 0.
 */
int sn_device_begin(struct sn_device *d, struct snest_vm *vm, const struct snest_request *request,
                    struct snest_context *context, enum snest_iommu iommu, uint32_t rid_max);
/* Closes it. Returns 0, for the caller to return. */
int sn_device_end(struct sn_device *d);

/*
 * Structures lie behind `stage` from now on: their addresses are its input.
 * False, and nothing changed, if the stage is one that cannot be walked.
 */
bool sn_device_behind(struct sn_device *d, const struct snest_stage *stage);

/*
 * Appends a stage to the context. False, and nothing changed, if
 * snest_stage_check refuses it: the caller reports the structure as invalid.
 */
bool sn_device_stage(struct sn_device *d, const struct snest_stage *stage);

enum sn_device_read {
	SN_DEVICE_OK = 0,
	SN_DEVICE_ABORT = 1, /* not memory, or never at rest */
	SN_DEVICE_FAULT =
		2, /* the guest stage in front refused: context->fault says it, but the code */
};

/*
 * Reads `count` 64-bit words at `addr`, a multiple of their size rounded up to
 * a power of two. More than one word: until two reads in a row agree.
 */
enum sn_device_read sn_device_read(struct sn_device *d, uint64_t addr, uint64_t *words,
                                   unsigned count);

/* The outcome is a fault of a structure: its address, its first word (0: unread), the code. */
void sn_device_fault(struct sn_device *d, unsigned code, uint64_t addr, uint64_t word);
/*
 * The outcome is the fault that sn_device_read left behind. The context keeps
 * the stage that faulted as its second, so that the fault can be read; the
 * first was not found.
 */
void sn_device_stage_fault(struct sn_device *d);
/* The request is refused without a record. */
void sn_device_blocked(struct sn_device *d);

/* Bits first..last of a word. */
static inline uint64_t sn_bits(uint64_t word, unsigned last, unsigned first)
{
	return word >> first & sn_mask(last - first + 1);
}

static inline bool sn_bit(uint64_t word, unsigned bit)
{
	return word >> bit & 1;
}

/*
 * The access that the stages see: the request's, with the context's overrides
 * of privilege and of fetches.
 */
uint32_t sn_context_access(const struct snest_context *context, uint32_t access);

/*
 * What has to hold before the stages: the context's rights and width. 0, or a
 * fault reason with *fault filled, code included; its stage is SNEST_NO_STAGE.
 */
unsigned sn_context_check(const struct snest_context *context, const struct snest_request *request,
                          struct snest_fault *fault);

/*
 * Codes of stage faults, one function an architecture; snest_fault_code picks
 * the right one. `access` is what sn_context_access gave. Where the same fault
 * may come from two stages, fault->stage says which. A fault of the host's
 * stage or map never gets here, unless it hid a table: then it arrives as
 * TABLE_ACCESS of the stage whose table it was.
 */
unsigned sn_vtd_fault_code(const struct snest_context *context, const struct snest_fault *fault,
                           uint32_t access);
/* kind: the event's TR flag is set for ATS translation requests. */
unsigned sn_amd_fault_code(const struct snest_context *context, const struct snest_fault *fault,
                           uint32_t access, unsigned kind);
unsigned sn_smmu_fault_code(const struct snest_context *context, const struct snest_fault *fault);
unsigned sn_riscv_fault_code(const struct snest_context *context, const struct snest_fault *fault,
                             uint32_t access);

/* Whether FPD suppresses this VT-d fault reason. */
bool sn_vtd_fault_qualified(unsigned code);

/* An AMD event's bits 63:48 from its number and flags. */
#define SN_AMD_EVENT(number, flags) ((unsigned)(number) << 12 | (flags))
#define SN_AMD_GN 0x1u /* guest (PASID) translation */
#define SN_AMD_NX 0x2u
#define SN_AMD_US 0x4u
#define SN_AMD_I 0x8u
#define SN_AMD_PR 0x10u
#define SN_AMD_RW 0x20u
#define SN_AMD_PE 0x40u
#define SN_AMD_RZ 0x80u
#define SN_AMD_TR 0x100u
#define SN_AMD_TYPE(n) ((unsigned)(n) << 9)

/* Where an SMMUv3 fault happened, as events say it: S2 and CLASS. */
#define SN_SMMU_CLASS_CD 0u
#define SN_SMMU_CLASS_TT 1u
#define SN_SMMU_CLASS_IN 2u
#define SN_SMMU_CLASS_MASK 3u
#define SN_SMMU_S2 4u
unsigned sn_smmu_fault_class(const struct snest_context *context, const struct snest_fault *fault);

/* Bits 1:0 of RISC-V's iotval2: implicit access, implicit write. */
unsigned sn_riscv_fault_implicit(const struct snest_context *context,
                                 const struct snest_fault *fault);

#endif
