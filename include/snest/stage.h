/* SPDX-License-Identifier: MIT */
/*
 * Stages: one translation each, a format, a root and its parameters.
 *
 * A stage is a plain value that the embedder fills, or that the device
 * structures of an IOMMU yield (snest/device.h). Stage 0 is the one nearest to
 * the device. The tables of a stage are found through the stages behind it.
 * Architecture: "Formats" and "Collapse" in docs/architecture.md.
 */
#ifndef SNEST_STAGE_H
#define SNEST_STAGE_H

#include <snest/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The page-table formats. The values are part of the ABI. */
enum snest_format {
	SNEST_FORMAT_NONE = 0,
	SNEST_FORMAT_X86_64 = 1,  /* VT-d first stage, and any x86-64 table; levels 4, 5 */
	SNEST_FORMAT_VTD_SS = 2,  /* VT-d second stage; levels 3, 4, 5 */
	SNEST_FORMAT_AMD_V1 = 3,  /* AMD-Vi host tables; levels (modes) 1-6 */
	SNEST_FORMAT_AMD_V2 = 4,  /* AMD-Vi guest tables; levels 4, 5 */
	SNEST_FORMAT_ARM_S1 = 5,  /* Armv8 stage 1, one or both halves */
	SNEST_FORMAT_ARM_S2 = 6,  /* Armv8 stage 2 */
	SNEST_FORMAT_RISCV32 = 7, /* Sv32, Sv32x4; levels 2 */
	SNEST_FORMAT_RISCV64 = 8, /* Sv39, Sv48, Sv57 and x4; levels 3, 4, 5 */
	SNEST_FORMAT_COUNT
};

/* Flags of every format. */
#define SNEST_STAGE_HW_A 0x1u       /* the IOMMU sets the accessed flag */
#define SNEST_STAGE_HW_D 0x2u       /* and the dirty flag; needs HW_A */
#define SNEST_STAGE_BIG_ENDIAN 0x4u /* entries are big-endian (Arm, RISC-V) */
#define SNEST_STAGE_NO_2M 0x10u     /* x86-64, VT-d: 2 MiB leaves are reserved */
#define SNEST_STAGE_NO_1G 0x20u     /* x86-64, VT-d: 1 GiB leaves are reserved */

/*
 * x86-64 and AMD v2. As everywhere, accessed and dirty flags are updated only
 * with HW_A and HW_D; without, they are ignored in these formats.
 */
#define SNEST_STAGE_X86_WP 0x100u   /* WPE: privileged writes honour R/W = 0 */
#define SNEST_STAGE_X86_NX 0x200u   /* bit 63 denies execution (else it is ignored) */
#define SNEST_STAGE_X86_EAF 0x400u  /* EAFE: set the extended-accessed flag too */
#define SNEST_STAGE_X86_SMEP 0x800u /* privileged execution of user pages is denied */

/* VT-d second stage. */
#define SNEST_STAGE_VTD_SNOOP 0x100u /* ECAP.SC: SNP (bit 11) is legal in leaves */
#define SNEST_STAGE_VTD_TM 0x200u    /* TM (bit 62) is legal in leaves */

/* Armv8, stage 1 and 2. */
#define SNEST_STAGE_ARM_DS 0x100u   /* LPA2: 52-bit addresses with 4K and 16K granules */
#define SNEST_STAGE_ARM_AFFD 0x200u /* a clear access flag does not fault */
#define SNEST_STAGE_ARM_LPA 0x400u  /* 64K granule: OA[51:48] from entry bits [15:12] */
/* Armv8 stage 1. */
#define SNEST_STAGE_ARM_TBI0 0x1000u /* top byte ignored, lower half */
#define SNEST_STAGE_ARM_TBI1 0x2000u
#define SNEST_STAGE_ARM_EPD0 0x4000u /* lower half disabled */
#define SNEST_STAGE_ARM_EPD1 0x8000u
#define SNEST_STAGE_ARM_HAD0 0x10000u /* hierarchical attributes off */
#define SNEST_STAGE_ARM_HAD1 0x20000u
#define SNEST_STAGE_ARM_WXN 0x40000u /* writable implies execute-never */
#define SNEST_STAGE_ARM_UWXN 0x80000u
#define SNEST_STAGE_ARM_PAN 0x100000u /* privileged data access to user pages denied */
#define SNEST_STAGE_ARM_EL2 0x200000u /* one privilege level: AP[1], PXN ignored */

/* RISC-V. */
#define SNEST_STAGE_RISCV_X4 0x100u      /* second stage: 2 more bits at the root, U must be 1 */
#define SNEST_STAGE_RISCV_SVNAPOT 0x200u /* N (bit 63) legal: 64 KiB */
#define SNEST_STAGE_RISCV_SVPBMT 0x400u
#define SNEST_STAGE_RISCV_SVRSW60T59B 0x800u
#define SNEST_STAGE_RISCV_SUM 0x1000u /* privileged data access to U = 1 pages */

/*
 * One stage. Fields that a format does not use are 0.
 */
struct snest_stage {
	uint32_t size;   /* sizeof(struct snest_stage) */
	uint16_t format; /* enum snest_format */
	/*
	 * Number of levels, top to bottom. Arm: may be 0, which derives it from
	 * ia_bits and the granule (stage 2: without concatenation).
	 */
	uint8_t levels;
	/*
	 * Width of the input address, in bits. 0: all that the levels give.
	 * VT-d second stage: min(MGAW, width of AW). Arm: 64 - TxSZ. In the other
	 * formats 0, or exactly what the levels give.
	 */
	uint8_t ia_bits;
	uint8_t oa_bits; /* width of output addresses; 0: the format's widest */
	/*
	 * What leads to the table grants (DTE.IR, DTE.IW): SNEST_READ, _WRITE,
	 * _EXEC; 0: all. Checked before the first entry is read. Where execution
	 * is not a right of its own (VT-d second stage, AMD v1) it follows READ.
	 */
	uint8_t rights;
	uint8_t granule_lg2; /* Arm: 12, 14, 16. Others 0. */
	/* Arm stage 1, upper half (TTB1). ia_bits_high 0: there is none. */
	uint8_t ia_bits_high;
	uint8_t granule_high_lg2;
	uint8_t reserved[3];
	uint32_t flags;     /* SNEST_STAGE_* */
	uint64_t root;      /* address of the top table, as the next stage's input */
	uint64_t root_high; /* Arm stage 1, TTB1 */
};

/*
 * Checks a stage. 0, or -EINVAL (wrong), -EOPNOTSUPP (unknown format or flag),
 * -E2BIG. If why is not NULL, *why is a static English sentence on failure.
 * Any thread.
 */
SNEST_API int snest_stage_check(const struct snest_stage *stage, const char **why);

/* Name of a format as the tools spell it ("vtd-ss"), NULL if unknown; and back, 0 if unknown. */
SNEST_API const char *snest_format_name(unsigned format);
SNEST_API unsigned snest_format_by_name(const char *name);

/* Name of a level as the format's manual calls it ("PDPTE", "L2"); "?" if it has none. */
SNEST_API const char *snest_format_level_name(const struct snest_stage *stage, unsigned level);

/* Writes a decoded entry ("R W A leaf 2M -> 0x40000000") into buf. Returns as snprintf does. */
SNEST_API int snest_format_describe(const struct snest_stage *stage, unsigned level, uint64_t entry,
                                    char *buf, size_t length);

#ifdef __cplusplus
}
#endif

#endif
