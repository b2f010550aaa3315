/* SPDX-License-Identifier: MIT */
/*
 * IOMMUs from text (tools/iommu.h). One table of registers serves options,
 * parsing and help.
 */
#include "tools/iommu.h"
#include <string.h>
#include "tools/args.h"

static const char *const kinds[] = {
	[SNEST_IOMMU_VTD] = "vtd",
	[SNEST_IOMMU_AMD] = "amd",
	[SNEST_IOMMU_SMMU] = "smmu",
	[SNEST_IOMMU_RISCV] = "riscv",
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

#define REGISTER(kind_, option, member, required_, text)                                    \
	{                                                                                   \
		.kind = kind_, .name = option, .offset = offsetof(struct sn_iommu, member), \
		.bytes = sizeof(((struct sn_iommu *)0)->member), .required = required_,     \
		.help = text                                                                \
	}

static const struct {
	unsigned kind;
	const char *name;
	size_t offset;
	size_t bytes;
	bool required;
	const char *help;
} registers[] = {
	REGISTER(SNEST_IOMMU_VTD, "rtaddr", vtd.rtaddr, true, "Root Table Address (020)"),
	REGISTER(SNEST_IOMMU_VTD, "cap", vtd.cap, false, "Capability (008)"),
	REGISTER(SNEST_IOMMU_VTD, "ecap", vtd.ecap, false, "Extended Capability (010)"),
	REGISTER(SNEST_IOMMU_VTD, "haw", vtd.haw, false, "host address width in bits, default 52"),
	REGISTER(SNEST_IOMMU_AMD, "device-table", amd.device_table[0], true,
                 "Device Table Base Address (0000)"),
	REGISTER(SNEST_IOMMU_AMD, "device-table1", amd.device_table[1], false, "segment 1 (0100)"),
	REGISTER(SNEST_IOMMU_AMD, "device-table2", amd.device_table[2], false, "segment 2 (0108)"),
	REGISTER(SNEST_IOMMU_AMD, "device-table3", amd.device_table[3], false, "segment 3 (0110)"),
	REGISTER(SNEST_IOMMU_AMD, "device-table4", amd.device_table[4], false, "segment 4 (0118)"),
	REGISTER(SNEST_IOMMU_AMD, "device-table5", amd.device_table[5], false, "segment 5 (0120)"),
	REGISTER(SNEST_IOMMU_AMD, "device-table6", amd.device_table[6], false, "segment 6 (0128)"),
	REGISTER(SNEST_IOMMU_AMD, "device-table7", amd.device_table[7], false, "segment 7 (0130)"),
	REGISTER(SNEST_IOMMU_AMD, "control", amd.control, false, "Control (0018), default IommuEn"),
	REGISTER(SNEST_IOMMU_AMD, "efr", amd.efr, false, "Extended Feature (0030)"),
	REGISTER(SNEST_IOMMU_SMMU, "strtab-base", smmu.strtab_base, true, "STRTAB_BASE"),
	REGISTER(SNEST_IOMMU_SMMU, "strtab-base-cfg", smmu.strtab_base_cfg, true,
                 "STRTAB_BASE_CFG"),
	REGISTER(SNEST_IOMMU_SMMU, "idr0", smmu.idr[0], false, "IDR0"),
	REGISTER(SNEST_IOMMU_SMMU, "idr1", smmu.idr[1], false, "IDR1"),
	REGISTER(SNEST_IOMMU_SMMU, "idr2", smmu.idr[2], false, "IDR2"),
	REGISTER(SNEST_IOMMU_SMMU, "idr3", smmu.idr[3], false, "IDR3"),
	REGISTER(SNEST_IOMMU_SMMU, "idr4", smmu.idr[4], false, "IDR4"),
	REGISTER(SNEST_IOMMU_SMMU, "idr5", smmu.idr[5], false, "IDR5"),
	REGISTER(SNEST_IOMMU_SMMU, "cr0", smmu.cr0, false, "CR0, default SMMUEN"),
	REGISTER(SNEST_IOMMU_SMMU, "cr2", smmu.cr2, false, "CR2"),
	REGISTER(SNEST_IOMMU_SMMU, "gbpa", smmu.gbpa, false, "GBPA"),
	REGISTER(SNEST_IOMMU_RISCV, "ddtp", riscv.ddtp, true,
                 "Device Directory Table Pointer (10)"),
	REGISTER(SNEST_IOMMU_RISCV, "capabilities", riscv.capabilities, false, "Capabilities (00)"),
	REGISTER(SNEST_IOMMU_RISCV, "fctl", riscv.fctl, false, "Features Control (08)"),
};

#define REGISTERS (sizeof(registers) / sizeof(registers[0]))
_Static_assert(REGISTERS <= SN_IOMMU_REGISTERS_MAX, "callers have that many values");

/*
 * What the capability registers say when the user does not: everything that
 * the library implements, so that no structure is refused for a feature that
 * the image's owner had.
 */
static void set_defaults(struct sn_iommu *iommu)
{
	switch (iommu->kind) {
	case SNEST_IOMMU_VTD:
		iommu->vtd = (struct snest_vtd_registers){
			.size = sizeof(iommu->vtd),
			.haw = 52,
			/* ND 6, SAGAW 3-5 levels, MGAW 57, SLLPS, PSI, FS1GP, FS5LP */
			.cap = 0x1100008c00380e06,
			/* QI DT PT SC NEST PRS ERS SRS EAFS PSS 20 PASID SMTS SSADS SSTS FSTS RPS */
			.ecap = 0x0002e99ce40000c6,
		};
		break;
	case SNEST_IOMMU_AMD:
		iommu->amd = (struct snest_amd_registers){
			.size = sizeof(iommu->amd),
			.control = 1 | 1 << 16, /* IommuEn, GTEn */
			/* PPR NX GT IA, HATS 6, GATS 5, GLX 3, PASMax 20, US, GIo, HA, HD */
			.efr = 0x001300330000985a,
		};
		break;
	case SNEST_IOMMU_SMMU:
		iommu->smmu = (struct snest_smmu_registers){
			.size = sizeof(iommu->smmu),
			/* S1P S2P AArch64 HTTU Hyp ATS ASID16 PRI VMID16 CD2L two-level */
			.idr[0] = 0x080d168b,
			.idr[1] = 20 << 6 | 32,                /* SSIDSIZE, SIDSIZE */
			.idr[3] = 1 << 2 | 1 << 4 | 1 << 9,    /* HAD XNX STT */
			.idr[5] = 6 | 0x70 | 1 << 7 | 1 << 10, /* OAS 52, granules, DS, VAX */
			.cr0 = 1,                              /* SMMUEN */
		};
		break;
	case SNEST_IOMMU_RISCV:
		iommu->riscv = (struct snest_riscv_registers){
			.size = sizeof(iommu->riscv),
			/* 1.0, all modes, Svpbmt, MSI_FLAT, AMO_HWAD, ATS, T2GPA, END, PAS 56, PD8-20 */
			.capabilities = 0x000001f80f4fcf10,
		};
		break;
	}
}

const char *sn_iommu_register(unsigned i)
{
	return i < REGISTERS ? registers[i].name : NULL;
}

const char *sn_iommu_name(const struct sn_iommu *iommu)
{
	return kinds[iommu->kind];
}

static int set_register(const struct sn_tool *tool, struct sn_iommu *iommu, unsigned i,
                        const char *value)
{
	unsigned char *field = (unsigned char *)iommu + registers[i].offset;
	bool wide = registers[i].bytes == 8;
	uint64_t number;
	uint32_t low;

	if (iommu->kind != registers[i].kind)
		return sn_tool_usage(tool, "--%s is a register of --iommu %s, not of %s",
		                     registers[i].name, kinds[registers[i].kind],
		                     kinds[iommu->kind]);
	if (!sn_args_max(value, wide ? UINT64_MAX : UINT32_MAX, &number))
		return sn_tool_usage(tool, "--%s %s: a value of %s bits is wanted, " SN_ARGS_NUMBER,
		                     registers[i].name, value, wide ? "64" : "32");
	low = (uint32_t)number;
	if (wide)
		memcpy(field, &number, sizeof(number));
	else
		memcpy(field, &low, sizeof(low));
	return 0;
}

int sn_iommu_set(const struct sn_tool *tool, struct sn_iommu *iommu, const char *kind,
                 const char *const *values)
{
	unsigned k = 1;

	while (k < KINDS && strcmp(kind, kinds[k]))
		k++;
	if (k == KINDS)
		return sn_tool_usage(tool, "--iommu %s: vtd, amd, smmu or riscv is wanted", kind);
	iommu->kind = k;
	set_defaults(iommu);
	for (unsigned i = 0; i < REGISTERS; i++) {
		int status = 0;

		if (values[i])
			status = set_register(tool, iommu, i, values[i]);
		else if (registers[i].kind == k && registers[i].required)
			status = sn_tool_usage(tool, "--iommu %s needs --%s, the value of %s", kind,
			                       registers[i].name, registers[i].help);
		if (status)
			return status;
	}
	return 0;
}

bool sn_iommu_request_kind(const char *name, uint32_t *kind)
{
	static const char *const names[] = {
		[SNEST_REQUEST_UNTRANSLATED] = "untranslated",
		[SNEST_REQUEST_TRANSLATION] = "translation",
		[SNEST_REQUEST_TRANSLATED] = "translated",
		[SNEST_REQUEST_PAGE] = "page",
	};

	for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(name, names[i])) {
			*kind = i;
			return true;
		}
	}
	return false;
}

int sn_iommu_context(const struct sn_iommu *iommu, struct snest_vm *vm,
                     const struct snest_request *request, struct snest_context *context)
{
	switch (iommu->kind) {
	case SNEST_IOMMU_VTD:
		return snest_vtd_context(vm, &iommu->vtd, request, context);
	case SNEST_IOMMU_AMD:
		return snest_amd_context(vm, &iommu->amd, request, context);
	case SNEST_IOMMU_SMMU:
		return snest_smmu_context(vm, &iommu->smmu, request, context);
	default:
		return snest_riscv_context(vm, &iommu->riscv, request, context);
	}
}

void sn_iommu_help(void)
{
	for (unsigned kind = 1; kind < KINDS; kind++) {
		printf("Registers of --iommu %s:\n", kinds[kind]);
		for (unsigned i = 0; i < REGISTERS; i++) {
			if (registers[i].kind == kind)
				printf("  --%-16s %s%s\n", registers[i].name, registers[i].help,
				       registers[i].required ? " (needed)" : "");
		}
	}
}
