/* SPDX-License-Identifier: MIT */
/*
 * From a requester to its stages: the device and context structures of each
 * IOMMU, read from guest memory.
 *
 * These functions are stateless: they take the register values that matter and
 * read the structures anew. Front ends call them; so may an embedder that
 * emulates the registers itself. A structure of more than one word is read,
 * read again and compared, so that an entry the guest is just changing is never
 * taken torn; one that does not come to rest counts as unreadable.
 * Architecture: "Device structures" in docs/architecture.md.
 */
#ifndef SNEST_DEVICE_H
#define SNEST_DEVICE_H

#include <snest/stage.h>
#include <snest/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

struct snest_walk;

enum snest_iommu {
	SNEST_IOMMU_VTD = 1,
	SNEST_IOMMU_AMD = 2,
	SNEST_IOMMU_SMMU = 3,
	SNEST_IOMMU_RISCV = 4,
};

enum snest_request_kind {
	SNEST_REQUEST_UNTRANSLATED = 0,
	SNEST_REQUEST_TRANSLATION = 1, /* ATS translation request */
	SNEST_REQUEST_TRANSLATED = 2,  /* ATS translated request */
	SNEST_REQUEST_PAGE = 3,        /* page request */
};

#define SNEST_REQUEST_NO_UPDATE 0x1u /* leave accessed and dirty flags of all stages alone */

/* What a request is, for all resolvers. */
struct snest_request {
	uint32_t size;   /* sizeof(struct snest_request) */
	uint32_t rid;    /* RID (16 bits), stream id, device id (24 bits) */
	uint32_t pasid;  /* 20 bits, or SNEST_NO_PASID */
	uint32_t access; /* SNEST_READ ... | SNEST_PRIVILEGED; none asks what is there */
	uint32_t kind;   /* enum snest_request_kind */
	uint32_t flags;  /* SNEST_REQUEST_* */
	uint64_t iova;   /* resolvers use it for fault reports only */
};

enum snest_context_outcome {
	SNEST_CONTEXT_STAGES = 0,  /* `count` stages; 0 of them is pass-through */
	SNEST_CONTEXT_BLOCKED = 1, /* the request is refused without a record */
	SNEST_CONTEXT_FAULT = 2,   /* see `fault`; fault.code is the architecture's */
};

/* Flags of a context. */
#define SNEST_CONTEXT_QUIET 0x1u /* qualified faults are not recorded: FPD, DTF, SA, CD.R = 0 */
#define SNEST_CONTEXT_ATS 0x2u   /* translation and translated requests allowed */
#define SNEST_CONTEXT_PRI 0x4u   /* page requests allowed */
#define SNEST_CONTEXT_PRIVILEGED 0x8u     /* requests count as privileged: RID_PRIV, PRIVCFG */
#define SNEST_CONTEXT_PASID 0x10u         /* the device has a PASID table */
#define SNEST_CONTEXT_SCALABLE 0x20u      /* VT-d scalable mode: its fault codes apply */
#define SNEST_CONTEXT_MSI_FLAT 0x40u      /* RISC-V: msi_* below are valid */
#define SNEST_CONTEXT_T2GPA 0x80u         /* RISC-V: translated requests carry GPAs */
#define SNEST_CONTEXT_STALL 0x100u        /* SMMUv3: stage 1 faults stall */
#define SNEST_CONTEXT_SUPPRESS 0x200u     /* AMD: page faults suppressed after the first (SE) */
#define SNEST_CONTEXT_UNPRIVILEGED 0x400u /* requests count as unprivileged */
#define SNEST_CONTEXT_DATA 0x800u         /* SMMUv3 INSTCFG: fetches count as reads */
#define SNEST_CONTEXT_FETCH 0x1000u       /* SMMUv3 INSTCFG: reads count as fetches */
#define SNEST_CONTEXT_STALL_2 0x2000u     /* SMMUv3: stage 2 faults stall */
#define SNEST_CONTEXT_QUIET_2 0x4000u     /* SMMUv3: stage 2 faults are not recorded */
#define SNEST_CONTEXT_RAZ_WI 0x8000u      /* SMMUv3: a stage 1 fault reads as zero (CD.A = 0) */
#define SNEST_CONTEXT_SPLIT_ATS \
	0x10000u /* SMMUv3: ATS ends at stage 1, translated requests begin at 2 */

/*
 * A structure that lies behind a guest stage (SMMUv3 context descriptors,
 * RISC-V process contexts, AMD GCR3 tables) and cannot be reached through it:
 * `fault` is that stage's, with for_stage 0 and this for_level.
 */
#define SNEST_LEVEL_STRUCTURE 0xff

struct snest_context {
	uint8_t outcome; /* enum snest_context_outcome */
	uint8_t iommu;   /* enum snest_iommu */
	uint8_t count;   /* stages */
	/*
	 * What has to hold before the stages: no access beyond `rights`
	 * (SNEST_READ ..., AMD's IR and IW), no IOVA of more than `ia_bits`
	 * bits. With no stage nothing else says so.
	 */
	uint8_t rights;
	uint8_t ia_bits; /* 64: any */
	uint8_t reserved[3];
	uint32_t flags; /* SNEST_CONTEXT_* */
	/*
	 * The tag: the guest's name for what an IOTLB would cache. `domain` is
	 * VT-d DID, AMD DomainID, SMMU VMID, RISC-V GSCID; `space` is PASID
	 * (VT-d, AMD), ASID or PSCID. Fields that do not apply are 0.
	 */
	uint32_t domain;
	uint32_t space;
	uint32_t
		pasid; /* the PASID that was used, after RID_PASID and the like; or SNEST_NO_PASID */
	uint64_t msi_table;             /* RISC-V MSI_FLAT: address of the table, */
	uint64_t msi_mask, msi_pattern; /* page numbers */
	struct snest_stage stage[3];    /* nearest to the device first */
	struct snest_fault fault;
};

/*
 * Register values. What the guest can write may hold anything; what the
 * embedder announces (CAP, EFR, IDR, capabilities) must be possible.
 */

/* VT-d: RTADDR (latched), CAP, ECAP; haw is the host address width in bits, 32 to 52. */
struct snest_vtd_registers {
	uint32_t size; /* sizeof(struct snest_vtd_registers) */
	uint32_t haw;
	uint64_t rtaddr, cap, ecap;
};
/* AMD-Vi: device table base registers, control, extended features. */
struct snest_amd_registers {
	uint32_t size; /* sizeof(struct snest_amd_registers) */
	uint32_t reserved;
	uint64_t device_table[8]; /* 0000, 0100 ... 0130 */
	uint64_t control, efr;
};
/* SMMUv3. VMSAv8-32 and VMSAv9-128 tables do not exist here, whatever IDR0 and IDR5 say. */
struct snest_smmu_registers {
	uint32_t size; /* sizeof(struct snest_smmu_registers) */
	uint32_t idr[6];
	uint32_t cr0, cr2, gbpa;
	uint32_t strtab_base_cfg;
	uint32_t reserved;
	uint64_t strtab_base;
};
/* RISC-V. */
struct snest_riscv_registers {
	uint32_t size; /* sizeof(struct snest_riscv_registers) */
	uint32_t fctl;
	uint64_t capabilities, ddtp;
};

/*
 * Resolves one request to its context. *context is filled on return 0, also
 * with faults of the structures. A context holds for every IOVA and, but for
 * the outcome, for every access. Opens its own read section; any thread; never
 * blocks; bounded reads.
 * Errors: -EINVAL (impossible register values or request), -E2BIG.
 */
SNEST_API int snest_vtd_context(struct snest_vm *vm, const struct snest_vtd_registers *registers,
                                const struct snest_request *request, struct snest_context *context);
SNEST_API int snest_amd_context(struct snest_vm *vm, const struct snest_amd_registers *registers,
                                const struct snest_request *request, struct snest_context *context);
SNEST_API int snest_smmu_context(struct snest_vm *vm, const struct snest_smmu_registers *registers,
                                 const struct snest_request *request,
                                 struct snest_context *context);
SNEST_API int snest_riscv_context(struct snest_vm *vm,
                                  const struct snest_riscv_registers *registers,
                                  const struct snest_request *request,
                                  struct snest_context *context);

/*
 * Translates request->iova through a context, as snest_walk does, with the
 * context's rights, width and privilege applied and fault.code filled. A
 * context that blocks or faults gives SNEST_WALK_FAULT. Special addresses
 * (interrupt ranges, MSI pages) are the caller's. Opens its own read section;
 * any thread; never blocks. Errors: -EINVAL, -EOPNOTSUPP, -E2BIG.
 */
SNEST_API int snest_context_walk(struct snest_vm *vm, const struct snest_context *context,
                                 const struct snest_request *request, struct snest_walk *result);

/*
 * The architecture's code for a fault that a walk of this context's stages
 * gave: VT-d fault reason; bits 63:48 of an AMD event (code and flags); SMMUv3
 * event number; RISC-V cause. 0 if the guest's IOMMU would have nothing to
 * report: the host, not the guest's tables, refused.
 */
SNEST_API unsigned snest_fault_code(const struct snest_context *context,
                                    const struct snest_request *request,
                                    const struct snest_fault *fault);

/*
 * Whether the IOMMU records a fault whose code is filled in (FPD, DTF, SA,
 * CD.R, RECINVSID and the rules for ATS requests). SUPPRESS and queue state
 * are the front end's.
 */
SNEST_API bool snest_fault_recorded(const struct snest_context *context,
                                    const struct snest_request *request,
                                    const struct snest_fault *fault);

/*
 * Name of an architecture's fault code ("context entry not present"), NULL if
 * unknown. iommu is "vtd", "amd", "smmu" or "riscv".
 */
SNEST_API const char *snest_fault_code_name(const char *iommu, unsigned code);

#ifdef __cplusplus
}
#endif

#endif
