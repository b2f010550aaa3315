/* SPDX-License-Identifier: MIT */
/*
 * Stages from text and back (tools/stages.h). One table of keys and one of
 * flags serve parsing, printing and help.
 */
#include "tools/stages.h"
#include <inttypes.h>
#include <string.h>
#include "tools/args.h"

#define X86 (1u << SNEST_FORMAT_X86_64 | 1u << SNEST_FORMAT_AMD_V2)
#define VTD (1u << SNEST_FORMAT_VTD_SS)
#define ARM1 (1u << SNEST_FORMAT_ARM_S1)
#define ARM (ARM1 | 1u << SNEST_FORMAT_ARM_S2)
#define RV64 (1u << SNEST_FORMAT_RISCV64)
#define RISCV (RV64 | 1u << SNEST_FORMAT_RISCV32)
#define ALL (X86 | VTD | ARM | RISCV | 1u << SNEST_FORMAT_AMD_V1)

static const struct {
	const char *name;
	uint32_t flag;
	uint32_t formats; /* bit n: legal in format n; flag values repeat between formats */
} flags[] = {
	{"hw-a", SNEST_STAGE_HW_A, ALL},
	{"hw-d", SNEST_STAGE_HW_D, ALL},
	{"big-endian", SNEST_STAGE_BIG_ENDIAN, ARM | RISCV},
	{"no-2m", SNEST_STAGE_NO_2M, X86 | VTD},
	{"no-1g", SNEST_STAGE_NO_1G, X86 | VTD},
	{"wp", SNEST_STAGE_X86_WP, X86},
	{"nx", SNEST_STAGE_X86_NX, X86},
	{"eaf", SNEST_STAGE_X86_EAF, X86},
	{"smep", SNEST_STAGE_X86_SMEP, X86},
	{"snoop", SNEST_STAGE_VTD_SNOOP, VTD},
	{"tm", SNEST_STAGE_VTD_TM, VTD},
	{"ds", SNEST_STAGE_ARM_DS, ARM},
	{"affd", SNEST_STAGE_ARM_AFFD, ARM},
	{"lpa", SNEST_STAGE_ARM_LPA, ARM},
	{"tbi0", SNEST_STAGE_ARM_TBI0, ARM1},
	{"tbi1", SNEST_STAGE_ARM_TBI1, ARM1},
	{"epd0", SNEST_STAGE_ARM_EPD0, ARM1},
	{"epd1", SNEST_STAGE_ARM_EPD1, ARM1},
	{"had0", SNEST_STAGE_ARM_HAD0, ARM1},
	{"had1", SNEST_STAGE_ARM_HAD1, ARM1},
	{"wxn", SNEST_STAGE_ARM_WXN, ARM1},
	{"uwxn", SNEST_STAGE_ARM_UWXN, ARM1},
	{"pan", SNEST_STAGE_ARM_PAN, ARM1},
	{"el2", SNEST_STAGE_ARM_EL2, ARM1},
	{"x4", SNEST_STAGE_RISCV_X4, RISCV},
	{"svnapot", SNEST_STAGE_RISCV_SVNAPOT, RV64},
	{"svpbmt", SNEST_STAGE_RISCV_SVPBMT, RV64},
	{"svrsw60t59b", SNEST_STAGE_RISCV_SVRSW60T59B, RV64},
	{"sum", SNEST_STAGE_RISCV_SUM, RISCV},
};

#define FLAGS (sizeof(flags) / sizeof(flags[0]))

enum key_kind {
	KEY_FORMAT,
	KEY_U8,
	KEY_U64,
	KEY_GRANULE,
	KEY_RIGHTS,
	KEY_FLAGS
};

static const struct {
	const char *name;
	enum key_kind kind;
	size_t offset;
	const char *help;
} keys[] = {
	{"format", KEY_FORMAT, 0, "page-table format, see below"},
	{"root", KEY_U64, offsetof(struct snest_stage, root), "address of the top table"},
	{"levels", KEY_U8, offsetof(struct snest_stage, levels), "number of levels"},
	{"ia-bits", KEY_U8, offsetof(struct snest_stage, ia_bits),
         "width of input addresses (default: all that the levels give)"},
	{"oa-bits", KEY_U8, offsetof(struct snest_stage, oa_bits),
         "width of output addresses (default: the format's widest)"},
	{"granule", KEY_GRANULE, offsetof(struct snest_stage, granule_lg2), "Arm: 4K, 16K or 64K"},
	{"root-high", KEY_U64, offsetof(struct snest_stage, root_high),
         "Arm stage 1: table of the upper half"},
	{"ia-bits-high", KEY_U8, offsetof(struct snest_stage, ia_bits_high),
         "Arm stage 1: its width"},
	{"granule-high", KEY_GRANULE, offsetof(struct snest_stage, granule_high_lg2),
         "Arm stage 1: its granule"},
	{"rights", KEY_RIGHTS, 0, "what leads to the tables grants, letters of rwx"},
	{"flags", KEY_FLAGS, 0, "flag+flag..., see below"},
};

#define KEYS (sizeof(keys) / sizeof(keys[0]))
_Static_assert(KEYS <= SN_STAGE_KEYS_MAX, "callers have that many values");

static int set_flags(const struct sn_tool *tool, struct snest_stage *stage, const char *where,
                     const char *text)
{
	while (*text) {
		size_t length = strcspn(text, "+"), i;

		for (i = 0; i < FLAGS; i++) {
			if (strlen(flags[i].name) == length &&
			    !strncmp(flags[i].name, text, length))
				break;
		}
		if (i == FLAGS)
			return sn_tool_usage(tool, "%s: %.*s is not a flag of any format", where,
			                     (int)length, text);
		if (!(flags[i].formats >> stage->format & 1))
			return sn_tool_usage(tool, "%s: %s is not a flag of format %s", where,
			                     flags[i].name, snest_format_name(stage->format));
		stage->flags |= flags[i].flag;
		text += length;
		text += *text == '+';
	}
	return 0;
}

static int set_format(const struct sn_tool *tool, struct snest_stage *stage, const char *where,
                      const char *value)
{
	stage->format = (uint16_t)snest_format_by_name(value);
	if (stage->format)
		return 0;
	sn_tool_error(tool, "%s: %s is not a page-table format; the formats are:", where, value);
	for (unsigned i = 1; i < SNEST_FORMAT_COUNT; i++) {
		if (snest_format_name(i))
			fprintf(stderr, "  %s\n", snest_format_name(i));
	}
	return SN_EXIT_USAGE;
}

/* Sets one parameter. `where` is what messages begin with. */
static int set(const struct sn_tool *tool, struct snest_stage *stage, const char *where, size_t i,
               const char *value)
{
	unsigned char *field = (unsigned char *)stage + keys[i].offset;
	const char *key = keys[i].name;
	uint64_t number = 0;
	uint32_t rights;

	switch (keys[i].kind) {
	case KEY_FORMAT:
		return set_format(tool, stage, where, value);
	case KEY_FLAGS:
		return set_flags(tool, stage, where, value);
	case KEY_RIGHTS:
		if (!sn_args_rights(value, &rights) || !rights)
			return sn_tool_usage(tool, "%s: %s %s: letters of rwx are wanted", where,
			                     key, value);
		stage->rights = (uint8_t)rights;
		break;
	case KEY_U64:
		if (!sn_args_u64(value, &number))
			return sn_tool_usage(tool,
			                     "%s: %s %s: an address is wanted, " SN_ARGS_NUMBER,
			                     where, key, value);
		memcpy(field, &number, sizeof(number));
		break;
	case KEY_U8:
		if (!sn_args_max(value, 64, &number))
			return sn_tool_usage(tool, "%s: %s %s: a number up to 64 is wanted", where,
			                     key, value);
		*field = (uint8_t)number;
		break;
	case KEY_GRANULE:
		if (!sn_args_u64(value, &number) ||
		    (number != 4096 && number != 16384 && number != 65536))
			return sn_tool_usage(tool, "%s: %s %s: 4K, 16K or 64K is wanted", where,
			                     key, value);
		*field = (uint8_t)__builtin_ctzll(number);
		break;
	}
	return 0;
}

const char *sn_stage_key(unsigned i)
{
	return i < KEYS ? keys[i].name : NULL;
}

int sn_stages_add(const struct sn_tool *tool, struct sn_stage_list *list, const char *const *values)
{
	struct snest_stage *stage = &list->stage[list->count];
	char where[32];

	if (list->count == SNEST_MAX_STAGES)
		return sn_tool_usage(tool, "at most %d stages are possible", SNEST_MAX_STAGES);
	snprintf(where, sizeof(where), "stage %u", list->count);
	*stage = (struct snest_stage){.size = sizeof(*stage)};
	if (!values[0])
		return sn_tool_usage(tool, "%s: the format is missing", where);
	if (!values[1])
		return sn_tool_usage(tool, "%s: the root is missing, the address of the top table",
		                     where);
	/* In the order of the table: flags are understood by the format. */
	for (size_t i = 0; i < KEYS; i++) {
		int status = values[i] ? set(tool, stage, where, i, values[i]) : 0;

		if (status)
			return status;
	}
	list->count++;
	return 0;
}

int sn_stages_add_text(const struct sn_tool *tool, struct sn_stage_list *list, char *text)
{
	const char *values[SN_STAGE_KEYS_MAX] = {NULL};
	char *key, *value;

	while (sn_args_pair(&text, &key, &value)) {
		size_t i = 0;

		while (i < KEYS && strcmp(keys[i].name, key))
			i++;
		if (i == KEYS)
			return sn_tool_usage(tool, "--stage: '%s' is not a parameter of a stage",
			                     key);
		if (!value)
			return sn_tool_usage(tool, "--stage: %s needs a value, as in %s=...", key,
			                     key);
		if (values[i])
			return sn_tool_usage(tool, "--stage: %s is given twice", key);
		values[i] = value;
	}
	return sn_stages_add(tool, list, values);
}

int sn_stages_check(const struct sn_tool *tool, const struct sn_stage_list *list)
{
	for (unsigned i = 0; i < list->count; i++) {
		const char *why = NULL;

		if (snest_stage_check(&list->stage[i], &why))
			return sn_tool_error(tool, "stage %u (%s): %s", i,
			                     snest_format_name(list->stage[i].format),
			                     why ? why : "not usable");
	}
	return 0;
}

const char *sn_stage_flag(const struct snest_stage *stage, unsigned *next)
{
	while (*next < FLAGS) {
		unsigned i = (*next)++;

		if ((flags[i].formats >> stage->format & 1) && (stage->flags & flags[i].flag))
			return flags[i].name;
	}
	return NULL;
}

void sn_stages_help(void)
{
	fputs("Parameters of a stage:\n", stdout);
	for (size_t i = 0; i < KEYS; i++)
		printf("  %-13s %s\n", keys[i].name, keys[i].help);
	fputs("\nFormats and their flags:\n", stdout);
	for (unsigned f = 1; f < SNEST_FORMAT_COUNT; f++) {
		int column = 0;

		if (!snest_format_name(f))
			continue;
		column = printf("  %-13s", snest_format_name(f));
		for (size_t i = 0; i < FLAGS; i++) {
			if (!(flags[i].formats >> f & 1))
				continue;
			if (column + 1 + strlen(flags[i].name) > 78)
				column = printf("\n  %-13s", "") - 1;
			column += printf(" %s", flags[i].name);
		}
		fputc('\n', stdout);
	}
}
