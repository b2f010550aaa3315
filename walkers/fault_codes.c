/* SPDX-License-Identifier: MIT */
/*
 * Names of the architectures' fault codes, for people to read
 * (snest_fault_code_name). Constant data; any thread.
 */
#include <string.h>
#include <snest/device.h>

struct code_name {
	unsigned code;
	const char *name;
};

static const struct code_name vtd[] = {
	{0x01, "root entry not present"},
	{0x02, "context entry not present"},
	{0x03, "context entry invalid"},
	{0x04, "address beyond the guest address width"},
	{0x05, "no right to write"},
	{0x06, "no right to read"},
	{0x07, "second-stage table not readable"},
	{0x08, "root table not readable"},
	{0x09, "context table not readable"},
	{0x0a, "reserved bit set in root entry"},
	{0x0b, "reserved bit set in context entry"},
	{0x0c, "reserved bit set in second-stage entry"},
	{0x0d, "translation type does not allow this request"},
	{0x0e, "leads to the interrupt range"},
	{0x20, "reserved bit set in interrupt request"},
	{0x21, "interrupt index beyond the table"},
	{0x22, "interrupt entry not present"},
	{0x23, "interrupt table not readable"},
	{0x24, "reserved bit set in interrupt entry"},
	{0x25, "compatibility format interrupt blocked"},
	{0x26, "interrupt source not verified"},
	{0x27, "posted-interrupt descriptor not accessible"},
	{0x28, "reserved bit set in posted-interrupt descriptor"},
	{0x29, "interrupt request not allowed"},
	{0x30, "translation table mode invalid"},
	{0x31, "request with PASID in legacy mode"},
	{0x32, "page request in legacy mode"},
	{0x38, "scalable-mode root table not readable"},
	{0x39, "scalable-mode root entry not present"},
	{0x3a, "reserved bit set in scalable-mode root entry"},
	{0x40, "scalable-mode context table not readable"},
	{0x41, "scalable-mode context entry not present"},
	{0x42, "reserved bit set in scalable-mode context entry"},
	{0x43, "scalable-mode context entry invalid"},
	{0x44, "ATS not enabled for this device"},
	{0x45, "PASID not enabled for this device"},
	{0x46, "PASID beyond the directory"},
	{0x47, "page requests not enabled for this device"},
	{0x48, "RID_PASID beyond the directory"},
	{0x50, "PASID directory not readable"},
	{0x51, "PASID directory entry not present"},
	{0x52, "reserved bit set in PASID directory entry"},
	{0x58, "PASID table not readable"},
	{0x59, "PASID entry not present"},
	{0x5a, "reserved bit set in PASID entry"},
	{0x5b, "PASID entry invalid"},
	{0x5c, "execute requests not enabled"},
	{0x5d, "supervisor requests not enabled"},
	{0x70, "first-stage table not readable"},
	{0x71, "first-stage entry not present"},
	{0x72, "reserved bit set in first-stage entry"},
	{0x73, "first-stage root table not readable"},
	{0x74, "first-stage address beyond the second stage"},
	{0x75, "no second-stage right to read the first-stage root table"},
	{0x76, "no second-stage right to read a first-stage table"},
	{0x77, "no second-stage right to write a first-stage table"},
	{0x78, "second-stage table not readable"},
	{0x79, "second-stage entry not present or without right"},
	{0x7a, "reserved bit set in second-stage entry"},
	{0x7b, "second-stage root table not readable"},
	{0x7c, "second-stage accessed flag not writable"},
	{0x7d, "second-stage dirty flag not writable"},
	{0x80, "address not canonical"},
	{0x81, "user access to a supervisor page"},
	{0x82, "no right to execute"},
	{0x83, "address beyond the hardware's width"},
	{0x84, "address beyond the second stage"},
	{0x85, "no right to write"},
	{0x86, "no right to read"},
	{0x87, "leads to the interrupt range"},
	{0x90, "first-stage flag update needs snooping"},
	{0x91, "first-stage flag update failed"},
	{0, NULL},
};

static const struct code_name amd[] = {
	{0x1, "ILLEGAL_DEV_TABLE_ENTRY"},
	{0x2, "IO_PAGE_FAULT"},
	{0x3, "DEV_TAB_HARDWARE_ERROR"},
	{0x4, "PAGE_TAB_HARDWARE_ERROR"},
	{0x5, "ILLEGAL_COMMAND_ERROR"},
	{0x6, "COMMAND_HARDWARE_ERROR"},
	{0x7, "IOTLB_INV_TIMEOUT"},
	{0x8, "INVALID_DEVICE_REQUEST"},
	{0x9, "INVALID_PPR_REQUEST"},
	{0xd, "RMP_FAULT"},
	{0xe, "RMP_HW_ERROR"},
	{0, NULL},
};

static const struct code_name smmu[] = {
	{0x01, "F_UUT"},
	{0x02, "C_BAD_STREAMID"},
	{0x03, "F_STE_FETCH"},
	{0x04, "C_BAD_STE"},
	{0x05, "F_BAD_ATS_TREQ"},
	{0x06, "F_STREAM_DISABLED"},
	{0x07, "F_TRANSL_FORBIDDEN"},
	{0x08, "C_BAD_SUBSTREAMID"},
	{0x09, "F_CD_FETCH"},
	{0x0a, "C_BAD_CD"},
	{0x0b, "F_WALK_EABT"},
	{0x10, "F_TRANSLATION"},
	{0x11, "F_ADDR_SIZE"},
	{0x12, "F_ACCESS"},
	{0x13, "F_PERMISSION"},
	{0x20, "F_TLB_CONFLICT"},
	{0x21, "F_CFG_CONFLICT"},
	{0x24, "E_PAGE_REQUEST"},
	{0x25, "F_VMS_FETCH"},
	{0, NULL},
};

static const struct code_name riscv[] = {
	{1, "instruction access fault"},
	{4, "read address misaligned"},
	{5, "read access fault"},
	{6, "write address misaligned"},
	{7, "write access fault"},
	{12, "instruction page fault"},
	{13, "read page fault"},
	{15, "write page fault"},
	{20, "instruction guest-page fault"},
	{21, "read guest-page fault"},
	{23, "write guest-page fault"},
	{256, "all inbound transactions disallowed"},
	{257, "device directory not readable"},
	{258, "device directory entry not valid"},
	{259, "device directory entry misconfigured"},
	{260, "transaction type disallowed"},
	{261, "MSI entry not readable"},
	{262, "MSI entry not valid"},
	{263, "MSI entry misconfigured"},
	{264, "MRIF not accessible"},
	{265, "process directory not readable"},
	{266, "process directory entry not valid"},
	{267, "process directory entry misconfigured"},
	{268, "device directory corrupted"},
	{269, "process directory corrupted"},
	{270, "MSI table corrupted"},
	{271, "MRIF corrupted"},
	{272, "internal datapath error"},
	{273, "MSI of the IOMMU not writable"},
	{274, "page table corrupted"},
	{0, NULL},
};

static const char *find(const struct code_name *names, unsigned code)
{
	for (; names->name; names++) {
		if (names->code == code)
			return names->name;
	}
	return NULL;
}

const char *snest_fault_code_name(const char *iommu, unsigned code)
{
	if (!strcmp(iommu, "vtd"))
		return find(vtd, code);
	/* The event number, with or without the flags below it. */
	if (!strcmp(iommu, "amd"))
		return find(amd, code >> 12 ? code >> 12 & 0xf : code);
	if (!strcmp(iommu, "smmu"))
		return find(smmu, code);
	if (!strcmp(iommu, "riscv"))
		return find(riscv, code);
	return NULL;
}
