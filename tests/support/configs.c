/* SPDX-License-Identifier: MIT */
/* The list of stages. See configs.h. */
#include "support/configs.h"

#include "walkers/pt.h"

#define STAGE(name_, format_, ...)                                                           \
	{                                                                                    \
		name_,                                                                       \
		{                                                                            \
			.size = sizeof(struct snest_stage), .format = (format_), __VA_ARGS__ \
		}                                                                            \
	}
#define X86(name, ...) STAGE("x86-64 " name, SNEST_FORMAT_X86_64, __VA_ARGS__)
#define V2(name, ...) STAGE("amd-v2 " name, SNEST_FORMAT_AMD_V2, __VA_ARGS__)
#define VTD(name, ...) STAGE("vtd-ss " name, SNEST_FORMAT_VTD_SS, __VA_ARGS__)
#define V1(name, ...) STAGE("amd-v1 " name, SNEST_FORMAT_AMD_V1, __VA_ARGS__)
#define S1(name, granule, bits, ...)                                                            \
	STAGE("arm-s1 " name, SNEST_FORMAT_ARM_S1, .granule_lg2 = (granule), .ia_bits = (bits), \
	      __VA_ARGS__)
#define S2(name, granule, bits, ...)                                                            \
	STAGE("arm-s2 " name, SNEST_FORMAT_ARM_S2, .granule_lg2 = (granule), .ia_bits = (bits), \
	      __VA_ARGS__)
#define RV32(name, ...) STAGE("riscv32 " name, SNEST_FORMAT_RISCV32, .levels = 2, __VA_ARGS__)
#define RV64(name, ...) STAGE("riscv64 " name, SNEST_FORMAT_RISCV64, __VA_ARGS__)

#define HIGH(granule, bits) .granule_high_lg2 = (granule), .ia_bits_high = (bits)
#define HW (SNEST_STAGE_HW_A | SNEST_STAGE_HW_D)

const struct test_config test_configs[] = {
	X86("4 levels", .levels = 4),
	X86("5 levels", .levels = 5, .flags = HW),
	X86("all flags", .levels = 4,
            .flags = HW | SNEST_STAGE_X86_WP | SNEST_STAGE_X86_NX | SNEST_STAGE_X86_EAF |
                     SNEST_STAGE_X86_SMEP),
	X86("WP NX", .levels = 5, .flags = SNEST_STAGE_X86_WP | SNEST_STAGE_X86_NX),
	X86("A only, 39 bits out", .levels = 4, .oa_bits = 39, .flags = SNEST_STAGE_HW_A),
	X86("no 2M, no 1G", .levels = 4, .oa_bits = 46,
            .flags = SNEST_STAGE_NO_2M | SNEST_STAGE_NO_1G | SNEST_STAGE_X86_NX),
	X86("no 1G, read-only", .levels = 4, .rights = SNEST_READ, .flags = SNEST_STAGE_NO_1G | HW),
	V2("4 levels", .levels = 4, .oa_bits = 48, .flags = HW | SNEST_STAGE_X86_NX),
	V2("5 levels", .levels = 5, .flags = SNEST_STAGE_X86_WP),

	VTD("3 levels", .levels = 3),
	VTD("4 levels", .levels = 4, .flags = HW),
	VTD("5 levels", .levels = 5, .flags = HW | SNEST_STAGE_VTD_SNOOP | SNEST_STAGE_VTD_TM),
	VTD("A only, 46 bits in, 40 out", .levels = 4, .ia_bits = 46, .oa_bits = 40,
            .flags = SNEST_STAGE_HW_A | SNEST_STAGE_VTD_SNOOP),
	VTD("no 2M", .levels = 4, .flags = SNEST_STAGE_NO_2M | SNEST_STAGE_VTD_TM),
	VTD("no 1G, write-only", .levels = 3, .rights = SNEST_WRITE,
            .flags = SNEST_STAGE_NO_1G | HW),

	V1("mode 1", .levels = 1),
	V1("mode 2", .levels = 2, .flags = HW),
	V1("mode 3", .levels = 3, .flags = SNEST_STAGE_HW_A),
	V1("mode 4", .levels = 4, .flags = HW),
	V1("mode 5", .levels = 5),
	V1("mode 6", .levels = 6, .flags = HW),
	V1("40 bits out", .levels = 4, .oa_bits = 40),
	V1("write-only", .levels = 3, .rights = SNEST_WRITE),
	V1("read-only", .levels = 4, .rights = SNEST_READ, .flags = HW),

	S1("4K 48", 12, 48, .levels = 4),
	S1("4K 39, both halves", 12, 39, HIGH(12, 39), .flags = HW),
	S1("4K 32 and 16", 12, 32, HIGH(12, 16), .flags = SNEST_STAGE_ARM_AFFD),
	S1("4K 25, 40 bits out", 12, 25, .oa_bits = 40, .flags = SNEST_STAGE_HW_A),
	S1("4K 52 and 49 DS", 12, 52, HIGH(12, 49), .flags = SNEST_STAGE_ARM_DS | HW),
	S1("4K 43 DS, 50 bits out", 12, 43, .oa_bits = 50,
           .flags = SNEST_STAGE_ARM_DS | SNEST_STAGE_ARM_AFFD),
	S1("16K 48 and 47", 14, 48, HIGH(14, 47)),
	S1("16K 36 and 25", 14, 36, HIGH(14, 25), .flags = HW),
	S1("16K 52 DS", 14, 52, .flags = SNEST_STAGE_ARM_DS),
	S1("64K 48 and 42", 16, 48, HIGH(16, 42), .flags = SNEST_STAGE_HW_A),
	S1("64K 52 LPA", 16, 52, .flags = SNEST_STAGE_ARM_LPA | HW),
	S1("64K 29 LPA and 17", 16, 29, HIGH(16, 17), .flags = SNEST_STAGE_ARM_LPA),
	S1("4K and 64K, DS LPA", 12, 51, HIGH(16, 47),
           .flags = SNEST_STAGE_ARM_DS | SNEST_STAGE_ARM_LPA | HW),
	S1("16K and 4K, TBI", 14, 40, HIGH(12, 44),
           .flags = SNEST_STAGE_ARM_TBI0 | SNEST_STAGE_ARM_TBI1 | SNEST_STAGE_ARM_AFFD),
	S1("TBI0, EPD1", 12, 40, HIGH(12, 40),
           .flags = SNEST_STAGE_ARM_TBI0 | SNEST_STAGE_ARM_EPD1),
	S1("EPD0, TBI1", 12, 30, HIGH(14, 33),
           .flags = SNEST_STAGE_ARM_EPD0 | SNEST_STAGE_ARM_TBI1),
	S1("HAD0", 12, 39, HIGH(12, 48), .flags = SNEST_STAGE_ARM_HAD0 | HW),
	S1("HAD1", 14, 42, HIGH(12, 39), .flags = SNEST_STAGE_ARM_HAD1),
	S1("WXN PAN", 12, 48, HIGH(12, 48),
           .flags = SNEST_STAGE_ARM_WXN | SNEST_STAGE_ARM_PAN | HW),
	S1("UWXN", 14, 47, .flags = SNEST_STAGE_ARM_UWXN | SNEST_STAGE_HW_A),
	S1("EL2", 12, 48, .flags = SNEST_STAGE_ARM_EL2 | HW),
	S1("EL2 WXN TBI", 16, 42,
           .flags = SNEST_STAGE_ARM_EL2 | SNEST_STAGE_ARM_WXN | SNEST_STAGE_ARM_TBI0),
	S1("big-endian", 12, 39, .flags = SNEST_STAGE_BIG_ENDIAN | HW),
	S1("read and execute", 12, 39, .rights = SNEST_READ | SNEST_EXEC,
           .flags = SNEST_STAGE_ARM_AFFD),

	S2("4K 48", 12, 48, .levels = 4),
	S2("4K 40, 2 tables", 12, 40, .levels = 3, .flags = HW),
	S2("4K 43, 16 tables", 12, 43, .levels = 3, .oa_bits = 44),
	S2("4K 40, L0", 12, 40, .levels = 4, .flags = SNEST_STAGE_ARM_AFFD),
	S2("4K 34, 16 tables", 12, 34, .levels = 2, .flags = SNEST_STAGE_HW_A),
	S2("4K 25, 16 tables", 12, 25, .levels = 1),
	S2("4K 16", 12, 16, .levels = 1, .flags = HW),
	S2("4K 52 DS", 12, 52, .levels = 5, .flags = SNEST_STAGE_ARM_DS | HW),
	S2("4K 52 DS, 16 tables", 12, 52, .levels = 4, .flags = SNEST_STAGE_ARM_DS),
	S2("16K 48, 2 tables", 14, 48, .levels = 3, .flags = HW),
	S2("16K 40, 16 tables", 14, 40, .levels = 2),
	S2("16K 29, 16 tables", 14, 29, .levels = 1, .flags = SNEST_STAGE_HW_A),
	S2("16K 52 DS", 14, 52, .levels = 4, .flags = SNEST_STAGE_ARM_DS | HW),
	S2("64K 48", 16, 48, .levels = 3, .oa_bits = 42),
	S2("64K 46, 16 tables", 16, 46, .levels = 2, .flags = HW),
	S2("64K 33, 16 tables", 16, 33, .levels = 1),
	S2("64K 52 LPA", 16, 52, .levels = 3, .flags = SNEST_STAGE_ARM_LPA | HW),
	S2("big-endian", 16, 42, .flags = SNEST_STAGE_BIG_ENDIAN | HW),

	RV32("Sv32", .flags = HW),
	RV32("Sv32 SUM", .flags = SNEST_STAGE_RISCV_SUM),
	RV32("Sv32x4", .flags = SNEST_STAGE_RISCV_X4 | HW),
	RV32("Sv32x4 big-endian", .oa_bits = 32,
             .flags = SNEST_STAGE_RISCV_X4 | SNEST_STAGE_BIG_ENDIAN),
	RV64("Sv39", .levels = 3),
	RV64("Sv48", .levels = 4, .flags = HW | SNEST_STAGE_RISCV_SVNAPOT),
	RV64("Sv57", .levels = 5, .flags = SNEST_STAGE_RISCV_SVPBMT | SNEST_STAGE_RISCV_SUM),
	RV64("Sv39 all flags", .levels = 3, .oa_bits = 48,
             .flags = HW | SNEST_STAGE_RISCV_SVNAPOT | SNEST_STAGE_RISCV_SVPBMT |
                      SNEST_STAGE_RISCV_SVRSW60T59B | SNEST_STAGE_RISCV_SUM),
	RV64("Sv39x4", .levels = 3, .flags = SNEST_STAGE_RISCV_X4 | HW | SNEST_STAGE_RISCV_SVNAPOT),
	RV64("Sv48x4", .levels = 4, .flags = SNEST_STAGE_RISCV_X4),
	RV64("Sv57x4", .levels = 5,
             .flags = SNEST_STAGE_RISCV_X4 | SNEST_STAGE_RISCV_SVPBMT |
                      SNEST_STAGE_RISCV_SVRSW60T59B | HW),
	RV64("Sv48 big-endian, read-only", .levels = 4, .rights = SNEST_READ,
             .flags = SNEST_STAGE_BIG_ENDIAN | SNEST_STAGE_RISCV_SVNAPOT),

	STAGE("mock", SN_FORMAT_MOCK, .levels = 4),
	STAGE("mock A D", SN_FORMAT_MOCK, .levels = 4, .flags = HW),
};

const size_t test_configs_count = sizeof(test_configs) / sizeof(test_configs[0]);

unsigned test_config_output_bits(const struct snest_stage *stage)
{
	unsigned widest;

	switch (stage->format) {
	case SNEST_FORMAT_ARM_S1:
	case SNEST_FORMAT_ARM_S2:
		widest = stage->flags & SNEST_STAGE_ARM_DS && stage->granule_lg2 != 16    ? 52
		         : stage->flags & SNEST_STAGE_ARM_LPA && stage->granule_lg2 == 16 ? 52
		                                                                          : 48;
		break;
	case SNEST_FORMAT_RISCV32:
		widest = 34;
		break;
	case SNEST_FORMAT_RISCV64:
		widest = 56;
		break;
	case SN_FORMAT_MOCK:
		widest = 51;
		break;
	default:
		widest = 52;
	}
	return stage->oa_bits && stage->oa_bits < widest ? stage->oa_bits : widest;
}

unsigned test_config_entry_lg2(const struct snest_stage *stage)
{
	return stage->format == SNEST_FORMAT_RISCV32 ? 2 : 3;
}

unsigned test_config_granule_lg2(const struct snest_stage *stage, unsigned half)
{
	if (stage->format == SNEST_FORMAT_ARM_S1 || stage->format == SNEST_FORMAT_ARM_S2)
		return half ? stage->granule_high_lg2 : stage->granule_lg2;
	return stage->format == SN_FORMAT_MOCK ? 11 : 12;
}
