/* SPDX-License-Identifier: MIT */
/*
 * SMMUv3: what the resolver's three files share. device_smmu.c finds the stream
 * table entry and decides what happens; device_smmu_ste.c judges the entry and
 * makes stage 2 of it; device_smmu_cd.c finds and judges the context
 * descriptor and makes stage 1. Used by these alone.
 */
#ifndef SN_WALKERS_DEVICE_SMMU_H
#define SN_WALKERS_DEVICE_SMMU_H

#include "walkers/device.h"

#define SMMU_C_BAD_STREAMID 0x02
#define SMMU_F_STE_FETCH 0x03
#define SMMU_C_BAD_STE 0x04
#define SMMU_F_BAD_ATS_TREQ 0x05
#define SMMU_F_STREAM_DISABLED 0x06
#define SMMU_F_TRANSL_FORBIDDEN 0x07
#define SMMU_C_BAD_SUBSTREAMID 0x08
#define SMMU_F_CD_FETCH 0x09
#define SMMU_C_BAD_CD 0x0a

#define CR0_SMMUEN 0
#define CR0_ATSCHK 4
#define CR2_E2H 0
#define CR2_RECINVSID 1

#define IDR0_S2P 0
#define IDR0_S1P 1
#define IDR0_TTF_64 3
#define IDR0_HTTU(idr) ((unsigned)sn_bits((idr)[0], 7, 6))
#define IDR0_HYP 9
#define IDR0_ATS 10
#define IDR0_NS1ATS 11
#define IDR0_ASID16 12
#define IDR0_PRI 16
#define IDR0_VMID16 18
#define IDR0_CD2L 19
#define IDR0_TTENDIAN(idr) ((unsigned)sn_bits((idr)[0], 22, 21))
#define IDR0_STALL_MODEL(idr) ((unsigned)sn_bits((idr)[0], 25, 24))
#define IDR0_TERM_MODEL 26
#define IDR0_ST_LEVEL(idr) ((unsigned)sn_bits((idr)[0], 28, 27))
#define IDR1_SIDSIZE(idr) ((unsigned)sn_bits((idr)[1], 5, 0))
#define IDR1_SSIDSIZE(idr) ((unsigned)sn_bits((idr)[1], 10, 6))
#define IDR1_ATTR_PERMS_OVR 26
#define IDR3_HAD 2
#define IDR3_STT 9
#define IDR5_OAS(idr) ((unsigned)sn_bits((idr)[5], 2, 0))
#define IDR5_DS 7
#define IDR5_VAX(idr) ((unsigned)sn_bits((idr)[5], 11, 10))

/*
 * Fields as last and first bit, counted over the whole structure as the manual
 * does; for sn_field.
 */
#define STE_V 0, 0
#define STE_CONFIG 3, 1
#define STE_S1FMT 5, 4
#define STE_S1CDMAX 63, 59
#define STE_S1DSS 65, 64
#define STE_S1STALLD 91, 91
#define STE_EATS 93, 92
#define STE_STRW 95, 94
#define STE_PRIVCFG 113, 112
#define STE_INSTCFG 115, 114
#define STE_S2VMID 143, 128
#define STE_S2T0SZ 165, 160
#define STE_S2SL0 167, 166
#define STE_S2TG 175, 174
#define STE_S2PS 178, 176
#define STE_S2AA64 179, 179
#define STE_S2ENDI 180, 180
#define STE_S2AFFD 181, 181
#define STE_S2HD 183, 183
#define STE_S2HA 184, 184
#define STE_S2S 185, 185
#define STE_S2R 186, 186
#define STE_S2HAFT 187, 187
#define STE_S2SL0_2 194, 194
#define STE_S2DS 195, 195
#define STE_S2TTB 243, 196 /* address bits 51:4 */

#define CD_T0SZ 5, 0
#define CD_TG0 7, 6
#define CD_EPD0 14, 14
#define CD_ENDI 15, 15
#define CD_T1SZ 21, 16
#define CD_TG1 23, 22
#define CD_EPD1 30, 30
#define CD_V 31, 31
#define CD_IPS 34, 32
#define CD_AFFD 35, 35
#define CD_WXN 36, 36
#define CD_UWXN 37, 37
#define CD_TBI0 38, 38
#define CD_TBI1 39, 39
#define CD_PAN 40, 40
#define CD_AA64 41, 41
#define CD_HD 42, 42
#define CD_HA 43, 43
#define CD_S 44, 44
#define CD_R 45, 45
#define CD_A 46, 46
#define CD_ASID 63, 48
#define CD_HAD0 65, 65
#define CD_HAFT 67, 67
#define CD_TTB0 115, 68 /* address bits 51:4 */
#define CD_HAD1 129, 129
#define CD_TTB1 179, 132
#define CD_DS 186, 186

/* A field of a structure; it lies within one word. */
static inline uint64_t sn_field(const uint64_t *words, unsigned last, unsigned first)
{
	return sn_bits(words[first / 64], last % 64, first % 64);
}

enum sn_smmu_world {
	SN_SMMU_EL1,
	SN_SMMU_EL2,
	SN_SMMU_EL2_E2H,
};

struct sn_smmu {
	struct sn_device d;
	struct snest_smmu_registers reg;
	uint64_t at; /* of the stream table entry */
	uint64_t ste[8];
	enum sn_smmu_world world;
	bool s1, s2;     /* the entry enables stage 1, 2 */
	unsigned eats;   /* the effective value */
	unsigned cd_lg2; /* effective S1CDMax */
	struct snest_stage stage_2;
};

/* Output address size of an OAS, IPS or S2PS code, capped at the SMMU's own. */
unsigned sn_smmu_size(const struct sn_smmu *s, unsigned code);

/* Granule of a TG0 or S2TG code; 0: reserved, or not implemented. */
unsigned sn_smmu_granule(const struct sn_smmu *s, unsigned tg);

/* The largest TxSZ that the granule allows. */
unsigned sn_smmu_tsz_max(const struct sn_smmu *s, unsigned granule_lg2);

/*
 * Judges a valid entry whose Config is 1xx. False: it is ILLEGAL. Fills the
 * fields of *s behind `ste`.
 */
bool sn_smmu_ste(struct sn_smmu *s);

/*
 * Finds the descriptor of a substream and makes stage 1 of it, in front of
 * stage 2 if there is one. On any refusal the context has its fault.
 */
void sn_smmu_cd(struct sn_smmu *s, uint32_t ssid);

#endif
