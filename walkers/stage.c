/* SPDX-License-Identifier: MIT */
/*
 * Stages as values: checking, preparing, names, and decoding entries for
 * people to read. No state; any thread.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "core/extensible.h"
#include "walkers/pt.h"

static const struct sn_format *const formats[SNEST_FORMAT_COUNT] = {
	[SNEST_FORMAT_X86_64] = &sn_format_x86_64,   [SNEST_FORMAT_VTD_SS] = &sn_format_vtd_ss,
	[SNEST_FORMAT_AMD_V1] = &sn_format_amd_v1,   [SNEST_FORMAT_AMD_V2] = &sn_format_x86_64,
	[SNEST_FORMAT_ARM_S1] = &sn_format_arm_s1,   [SNEST_FORMAT_ARM_S2] = &sn_format_arm_s2,
	[SNEST_FORMAT_RISCV32] = &sn_format_riscv32, [SNEST_FORMAT_RISCV64] = &sn_format_riscv64,
};

/* Flags that each format knows; others are -EOPNOTSUPP. */
#define FLAGS_ALL (SNEST_STAGE_HW_A | SNEST_STAGE_HW_D)
#define FLAGS_X86                                                                 \
	(FLAGS_ALL | SNEST_STAGE_NO_2M | SNEST_STAGE_NO_1G | SNEST_STAGE_X86_WP | \
	 SNEST_STAGE_X86_NX | SNEST_STAGE_X86_EAF | SNEST_STAGE_X86_SMEP)
#define FLAGS_ARM_S2                                                                      \
	(FLAGS_ALL | SNEST_STAGE_BIG_ENDIAN | SNEST_STAGE_ARM_DS | SNEST_STAGE_ARM_AFFD | \
	 SNEST_STAGE_ARM_LPA)
#define FLAGS_ARM_S1                                                                         \
	(FLAGS_ARM_S2 | SNEST_STAGE_ARM_TBI0 | SNEST_STAGE_ARM_TBI1 | SNEST_STAGE_ARM_EPD0 | \
	 SNEST_STAGE_ARM_EPD1 | SNEST_STAGE_ARM_HAD0 | SNEST_STAGE_ARM_HAD1 |                \
	 SNEST_STAGE_ARM_WXN | SNEST_STAGE_ARM_UWXN | SNEST_STAGE_ARM_PAN | SNEST_STAGE_ARM_EL2)
#define FLAGS_RISCV32 \
	(FLAGS_ALL | SNEST_STAGE_BIG_ENDIAN | SNEST_STAGE_RISCV_X4 | SNEST_STAGE_RISCV_SUM)

static const uint32_t format_flags[SNEST_FORMAT_COUNT] = {
	[SNEST_FORMAT_X86_64] = FLAGS_X86,
	[SNEST_FORMAT_VTD_SS] = FLAGS_ALL | SNEST_STAGE_NO_2M | SNEST_STAGE_NO_1G |
                                SNEST_STAGE_VTD_SNOOP | SNEST_STAGE_VTD_TM,
	[SNEST_FORMAT_AMD_V1] = FLAGS_ALL,
	[SNEST_FORMAT_AMD_V2] = FLAGS_X86,
	[SNEST_FORMAT_ARM_S1] = FLAGS_ARM_S1,
	[SNEST_FORMAT_ARM_S2] = FLAGS_ARM_S2,
	[SNEST_FORMAT_RISCV32] = FLAGS_RISCV32,
	[SNEST_FORMAT_RISCV64] = FLAGS_RISCV32 | SNEST_STAGE_RISCV_SVNAPOT |
                                 SNEST_STAGE_RISCV_SVPBMT | SNEST_STAGE_RISCV_SVRSW60T59B,
};

const struct sn_format *sn_format(unsigned format)
{
#ifdef SNEST_WITH_MOCK
	if (format == SN_FORMAT_MOCK)
		return &sn_format_mock;
#endif
	return format < SNEST_FORMAT_COUNT ? formats[format] : NULL;
}

int sn_pt_prepare(struct sn_pt *pt, const struct snest_stage *user, const char **why)
{
	const struct sn_format *format;
	struct snest_stage stage;
	const char *ignored;
	int ret;

	if (!why)
		why = &ignored;
	*why = "the size field does not fit";
	if (user->size < sizeof(user->size))
		return -EINVAL;
	ret = sn_struct_in(&stage, sizeof(stage), user, user->size);
	if (ret)
		return ret;
	format = sn_format(stage.format);
	if (!format) {
		*why = "unknown format";
		return -EOPNOTSUPP;
	}
	if (stage.format < SNEST_FORMAT_COUNT && (stage.flags & ~format_flags[stage.format])) {
		*why = "a flag that the format does not know";
		return -EOPNOTSUPP;
	}
	if (stage.reserved[0] || stage.reserved[1] || stage.reserved[2]) {
		*why = "a reserved field is not 0";
		return -EINVAL;
	}
	if (stage.rights & ~SNEST_RIGHTS) {
		*why = "rights other than read, write, execute";
		return -EINVAL;
	}
	if ((stage.flags & SNEST_STAGE_HW_D) && !(stage.flags & SNEST_STAGE_HW_A)) {
		*why = "hardware updates of the dirty flag need those of the accessed flag";
		return -EINVAL;
	}
	memset(pt, 0, sizeof(*pt));
	pt->format = (uint8_t)stage.format;
	pt->flags = stage.flags;
	pt->rights = stage.rights ? stage.rights : SNEST_RIGHTS;
	pt->granule_lg2[0] = pt->granule_lg2[1] = 12;
	return format->prepare(pt, &stage, why);
}

int snest_stage_check(const struct snest_stage *stage, const char **why)
{
	struct sn_pt pt;

	return sn_pt_prepare(&pt, stage, why);
}

const char *snest_format_name(unsigned format)
{
	if (format == SNEST_FORMAT_AMD_V2)
		return "amd-v2";
	return sn_format(format) ? sn_format(format)->name : NULL;
}

unsigned snest_format_by_name(const char *name)
{
	for (unsigned i = 1; i < SNEST_FORMAT_COUNT; i++) {
		if (!strcmp(name, snest_format_name(i)))
			return i;
	}
	return SNEST_FORMAT_NONE;
}

const char *snest_format_level_name(const struct snest_stage *stage, unsigned level)
{
	const struct sn_format *format = sn_format(stage->format);

	for (unsigned i = 0; format && format->level_names[i]; i++) {
		if (i == level)
			return format->level_names[i];
	}
	return "?";
}

/* "4K", "2M", "1G" and so on; buf holds at least 8 bytes. */
static const char *size_name(unsigned lg2, char *buf, size_t length)
{
	snprintf(buf, length, "%u%c", 1u << lg2 % 10, "BKMGTPE"[lg2 / 10 > 6 ? 6 : lg2 / 10]);
	return buf;
}

int snest_format_describe(const struct snest_stage *stage, unsigned level, uint64_t entry,
                          char *buf, size_t length)
{
	struct sn_pt pt;
	struct sn_entry e;
	uint32_t attr;
	char size[8];

	if (sn_pt_prepare(&pt, stage, NULL) || level > pt.top[0])
		return snprintf(buf, length, "?");
	e = sn_format(pt.format)->decode(&pt, 0, level, entry);
	if (e.early)
		return snprintf(buf, length, "%s", snest_fault_reason_name(e.early));
	if (e.late)
		return snprintf(buf, length, "%s", snest_fault_reason_name(e.late));
	if (e.kind == SN_ENTRY_TABLE)
		return snprintf(buf, length, "%c%c%c%c table -> 0x%llx",
		                e.grant & SN_GRANT_READ ? 'R' : '-',
		                e.grant & SN_GRANT_WRITE ? 'W' : '-',
		                e.grant & SN_GRANT_EXEC ? 'X' : '-',
		                e.grant & SN_GRANT_USER ? 'U' : '-', (unsigned long long)e.addr);
	attr = sn_format(pt.format)->attr(&pt, level, entry);
	return snprintf(buf, length, "%c%c%c%c%s%s%s%s leaf %s -> 0x%llx",
	                e.grant & SN_GRANT_READ ? 'R' : '-', e.grant & SN_GRANT_WRITE ? 'W' : '-',
	                e.grant & SN_GRANT_EXEC ? 'X' : '-', e.grant & SN_GRANT_USER ? 'U' : '-',
	                attr & SNEST_ATTR_ACCESSED ? " A" : "", attr & SNEST_ATTR_DIRTY ? " D" : "",
	                attr & SNEST_ATTR_GLOBAL ? " G" : "", attr & SNEST_ATTR_SNOOP ? " SNP" : "",
	                size_name(e.lg2, size, sizeof(size)), (unsigned long long)e.addr);
}
