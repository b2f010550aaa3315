/* SPDX-License-Identifier: MIT */
/*
 * An IOMMU as a user describes it: its kind and the values of its registers;
 * and the request that is put to it.
 */
#ifndef SN_TOOLS_IOMMU_H
#define SN_TOOLS_IOMMU_H

#include <snest/device.h>
#include "tools/tool.h"

struct sn_iommu {
	unsigned kind; /* enum snest_iommu */
	union {
		struct snest_vtd_registers vtd;
		struct snest_amd_registers amd;
		struct snest_smmu_registers smmu;
		struct snest_riscv_registers riscv;
	};
};

/* Registers of all kinds together, at most. */
#define SN_IOMMU_REGISTERS_MAX 32

/* Name of register i, NULL behind the last. They are the long options of their values. */
const char *sn_iommu_register(unsigned i);

/*
 * Makes an IOMMU of `kind` ("vtd", "amd", "smmu", "riscv") with registers as
 * values[i] says, the others at their defaults. 0, or an exit status with a
 * message printed.
 */
int sn_iommu_set(const struct sn_tool *tool, struct sn_iommu *iommu, const char *kind,
                 const char *const *values);

/* "vtd" and so on, as snest_fault_code_name wants it. */
const char *sn_iommu_name(const struct sn_iommu *iommu);

/* "untranslated", "translation", "translated", "page" to enum snest_request_kind. */
bool sn_iommu_request_kind(const char *name, uint32_t *kind);

/* Resolves a request with the function of this IOMMU. 0 or a negative errno. */
int sn_iommu_context(const struct sn_iommu *iommu, struct snest_vm *vm,
                     const struct snest_request *request, struct snest_context *context);

/* Registers of every kind, for --help. */
void sn_iommu_help(void);

#endif
