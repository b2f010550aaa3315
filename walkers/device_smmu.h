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
