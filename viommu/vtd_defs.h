/* SPDX-License-Identifier: MIT */
/*
 * VT-d's numbers: register offsets and fields, capability bits, descriptors.
 * Names follow the architecture's manual. Nothing here has behaviour.
 */
#ifndef SN_VIOMMU_VTD_DEFS_H
#define SN_VIOMMU_VTD_DEFS_H

#include <stdint.h>

#define SN_BIT(n) (1ull << (n))

#define VTD_PAGE_SIZE 4096u

/* CAP */
#define VTD_CAP_ND(cap) ((unsigned)((cap)&7))
#define VTD_CAP_AFL SN_BIT(3)
#define VTD_CAP_RWBF SN_BIT(4)
#define VTD_CAP_PLMR SN_BIT(5)
#define VTD_CAP_PHMR SN_BIT(6)
#define VTD_CAP_CM SN_BIT(7)
#define VTD_CAP_SAGAW(cap) ((unsigned)((cap) >> 8 & 0x1f))
#define VTD_CAP_MGAW(cap) ((unsigned)((cap) >> 16 & 0x3f) + 1)
#define VTD_CAP_ZLR SN_BIT(22)
#define VTD_CAP_FRO(cap) ((unsigned)((cap) >> 24 & 0x3ff) * 16)
#define VTD_CAP_SLLPS(cap) ((unsigned)((cap) >> 34 & 0xf))
#define VTD_CAP_PSI SN_BIT(39)
#define VTD_CAP_NFR(cap) ((unsigned)((cap) >> 40 & 0xff) + 1)
#define VTD_CAP_MAMV(cap) ((unsigned)((cap) >> 48 & 0x3f))
#define VTD_CAP_DWD SN_BIT(54)
#define VTD_CAP_DRD SN_BIT(55)
#define VTD_CAP_FS1GP SN_BIT(56)
#define VTD_CAP_PI SN_BIT(59)
#define VTD_CAP_FS5LP SN_BIT(60)
#define VTD_CAP_ECMDS SN_BIT(61)
#define VTD_CAP_ESIRTPS SN_BIT(62)
#define VTD_CAP_ESRTPS SN_BIT(63)
#define VTD_CAP_RESERVED \
	(SN_BIT(13) | SN_BIT(14) | SN_BIT(15) | SN_BIT(38) | SN_BIT(57) | SN_BIT(58))

/* ECAP */
#define VTD_ECAP_C SN_BIT(0)
#define VTD_ECAP_QI SN_BIT(1)
#define VTD_ECAP_DT SN_BIT(2)
#define VTD_ECAP_IR SN_BIT(3)
#define VTD_ECAP_EIM SN_BIT(4)
#define VTD_ECAP_PT SN_BIT(6)
#define VTD_ECAP_SC SN_BIT(7)
#define VTD_ECAP_IRO(ecap) ((unsigned)((ecap) >> 8 & 0x3ff) * 16)
#define VTD_ECAP_MTS SN_BIT(25)
#define VTD_ECAP_NEST SN_BIT(26)
#define VTD_ECAP_PRS SN_BIT(29)
#define VTD_ECAP_ERS SN_BIT(30)
#define VTD_ECAP_SRS SN_BIT(31)
#define VTD_ECAP_EAFS SN_BIT(34)
#define VTD_ECAP_PSS_SHIFT 35
#define VTD_ECAP_PSS(ecap) ((unsigned)((ecap) >> VTD_ECAP_PSS_SHIFT & 0x1f))
#define VTD_ECAP_PASID SN_BIT(40)
#define VTD_ECAP_PDS SN_BIT(42)
#define VTD_ECAP_SMTS SN_BIT(43)
#define VTD_ECAP_VCS SN_BIT(44)
#define VTD_ECAP_SSADS SN_BIT(45)
#define VTD_ECAP_SSTS SN_BIT(46)
#define VTD_ECAP_FSTS SN_BIT(47)
#define VTD_ECAP_RPS SN_BIT(49)
#define VTD_ECAP_PMS SN_BIT(51)
#define VTD_ECAP_ADMS SN_BIT(52)
#define VTD_ECAP_RPRIVS SN_BIT(53)

/* GCMD, GSTS */
#define VTD_TE SN_BIT(31)
#define VTD_SRTP SN_BIT(30)
#define VTD_SFL SN_BIT(29)
#define VTD_EAFL SN_BIT(28)
#define VTD_WBF SN_BIT(27)
#define VTD_QIE SN_BIT(26)
#define VTD_IRE SN_BIT(25)
#define VTD_SIRTP SN_BIT(24)
#define VTD_CFI SN_BIT(23)

/* RTADDR */
#define VTD_TTM(rtaddr) ((unsigned)((rtaddr) >> 10 & 3))
enum {
	VTD_TTM_LEGACY = 0,
	VTD_TTM_SCALABLE = 1,
	VTD_TTM_ABORT = 3
};

#define VTD_ADDR 0xfffffffffffff000ull

/* FSTS */
#define VTD_PFO SN_BIT(0)
#define VTD_PPF SN_BIT(1)
#define VTD_IQE SN_BIT(4)
#define VTD_ICE SN_BIT(5)
#define VTD_ITE SN_BIT(6)
#define VTD_FSTS_EVENTS (VTD_PFO | VTD_PPF | VTD_IQE | VTD_ICE | VTD_ITE)
#define VTD_FRI_SHIFT 8
#define VTD_FRI_MASK 0xff00ull

/* PMEN */
#define VTD_EPM SN_BIT(31)
#define VTD_PRS SN_BIT(0)

/* FECTL, IECTL, PECTL */
#define VTD_IM SN_BIT(31)
#define VTD_IP SN_BIT(30)

/* FRCD, upper word */
#define VTD_F SN_BIT(63)
#define VTD_FRCD_READ SN_BIT(62)
#define VTD_FRCD_AT_SHIFT 60
#define VTD_FRCD_PRIV SN_BIT(29)
#define VTD_FRCD_EXE SN_BIT(30)
#define VTD_FRCD_PP SN_BIT(31)
#define VTD_FRCD_PAGE_REQUEST SN_BIT(28)

/* CCMD, IOTLB */
#define VTD_ICC SN_BIT(63)
#define VTD_CIRG(v) ((unsigned)((v) >> 61 & 3))
#define VTD_CAIG_SHIFT 59
#define VTD_IVT SN_BIT(63)
#define VTD_IIRG(v) ((unsigned)((v) >> 60 & 3))
#define VTD_IAIG_SHIFT 57
enum {
	VTD_GLOBAL = 1,
	VTD_DOMAIN = 2,
	VTD_SELECTIVE = 3
};

/* IQA, IQT, IQERCD */
#define VTD_IQA_QS(iqa) ((unsigned)((iqa)&7))
#define VTD_IQA_DW SN_BIT(11)
#define VTD_QUEUE_OFFSET 0x7fff0ull
#define VTD_ITESID_SHIFT 32
#define VTD_ICESID_SHIFT 48

/* PQA, PQH, PQT, PRS */
#define VTD_PQ_OFFSET 0x7ffe0ull
#define VTD_PPR SN_BIT(0)
#define VTD_PRO SN_BIT(1)
#define VTD_PQ_ENTRY 32u

/* Interrupt address range. */
#define VTD_INTERRUPT_FIRST 0xfee00000ull
#define VTD_INTERRUPT_LAST 0xfeefffffull

/* Descriptors: bits 3:0 with bits 11:9 above them. */
enum {
	VTD_DESC_CONTEXT = 1,
	VTD_DESC_IOTLB = 2,
	VTD_DESC_DEVICE_TLB = 3,
	VTD_DESC_INTERRUPT = 4,
	VTD_DESC_WAIT = 5,
	VTD_DESC_PASID_IOTLB = 6,
	VTD_DESC_PASID_CACHE = 7,
	VTD_DESC_PASID_DEVICE_TLB = 8,
	VTD_DESC_PAGE_RESPONSE = 9,
};

/* Granularity of the PASID-cache descriptor. */
enum {
	VTD_PC_DOMAIN = 0,
	VTD_PC_PASID = 1,
	VTD_PC_GLOBAL = 3
};

#define VTD_WAIT_IF SN_BIT(4)
#define VTD_WAIT_SW SN_BIT(5)
#define VTD_WAIT_FN SN_BIT(6)

#endif
