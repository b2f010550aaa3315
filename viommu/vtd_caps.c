/* SPDX-License-Identifier: MIT */
/*
 * What a front end announces: CAP and ECAP, composed from an embedder's choice
 * or given raw, and checked for contradictions.
 *
 * The checks are about what the front end itself relies on: where its register
 * blocks lie, what its resolver and its queue support. A capability that would
 * promise the guest something nobody does here is refused, so that no guest
 * finds out at run time.
 */
#include <errno.h>
#include "viommu/vtd.h"

#define DEFAULT_FRO 0x220u
#define DEFAULT_IRO 0xf0u
#define DEFAULT_MAMV 18u
#define DEFAULT_BUDGET 256u
#define DEFAULT_BINDINGS 65536u

/* If all of the first two are there, so must be all of the third. */
struct rule {
	uint64_t cap, ecap;
	uint64_t needs_ecap;
	const char *why;
};

/* clang-format off */
static const struct rule rules[] = {
	{ 0, VTD_ECAP_DT, VTD_ECAP_QI,
	  "device TLBs (DT) need queued invalidation (QI)" },
	{ 0, VTD_ECAP_IR, VTD_ECAP_QI,
	  "interrupt remapping (IR) needs queued invalidation (QI)" },
	{ 0, VTD_ECAP_EIM, VTD_ECAP_IR,
	  "extended interrupt mode (EIM) needs interrupt remapping (IR)" },
	{ 0, VTD_ECAP_SMTS, VTD_ECAP_QI,
	  "scalable mode (SMTS) needs queued invalidation (QI)" },
	{ 0, VTD_ECAP_FSTS, VTD_ECAP_SMTS,
	  "first-stage translation (FSTS) needs scalable mode (SMTS)" },
	{ 0, VTD_ECAP_SSTS, VTD_ECAP_SMTS,
	  "second-stage translation (SSTS) needs scalable mode (SMTS)" },
	{ 0, VTD_ECAP_NEST, VTD_ECAP_FSTS | VTD_ECAP_SSTS,
	  "nested translation (NEST) needs both stages (FSTS, SSTS)" },
	{ 0, VTD_ECAP_PASID, VTD_ECAP_SMTS,
	  "PASIDs need scalable mode (SMTS)" },
	{ 0, VTD_ECAP_RPS, VTD_ECAP_SMTS,
	  "RID_PASID (RPS) needs scalable mode (SMTS)" },
	{ 0, VTD_ECAP_RPRIVS, VTD_ECAP_SMTS | VTD_ECAP_SRS,
	  "RID_PRIV (RPRIVS) needs scalable mode (SMTS) and privileged requests (SRS)" },
	{ 0, VTD_ECAP_SSADS, VTD_ECAP_SSTS,
	  "second-stage accessed and dirty flags (SSADS) need SSTS" },
	{ 0, VTD_ECAP_EAFS, VTD_ECAP_FSTS,
	  "the extended accessed flag (EAFS) needs first-stage translation (FSTS)" },
	{ 0, VTD_ECAP_PRS, VTD_ECAP_DT | VTD_ECAP_SMTS,
	  "page requests (PRS) need device TLBs (DT) and scalable mode (SMTS)" },
	{ 0, VTD_ECAP_PDS, VTD_ECAP_PRS,
	  "page request drain (PDS) needs page requests (PRS)" },
	{ VTD_CAP_FS5LP, 0, VTD_ECAP_FSTS,
	  "5-level first-stage tables (FS5LP) need first-stage translation (FSTS)" },
	{ VTD_CAP_PI, 0, VTD_ECAP_IR,
	  "posted interrupts (PI) need interrupt remapping (IR)" },
};
/* clang-format on */

static int fail(const char **why, int error, const char *sentence)
{
	if (why)
		*why = sentence;
	return error;
}

/* Blocks of registers must not lie over others, nor beyond the page. */
static const char *check_layout(uint64_t cap, uint64_t ecap)
{
	unsigned fro = VTD_CAP_FRO(cap), fro_last = fro + VTD_CAP_NFR(cap) * 16 - 1;
	unsigned iro = VTD_ECAP_IRO(ecap), iro_last = iro + 15;

	if (fro < 0xf0 || iro < 0xf0)
		return "fault or IOTLB registers (FRO, IRO) lie over other registers";
	if (fro_last >= VTD_PAGE_SIZE || iro_last >= VTD_PAGE_SIZE)
		return "fault or IOTLB registers (FRO, IRO) do not fit into the register page";
	if (fro <= iro_last && iro <= fro_last)
		return "fault and IOTLB registers (FRO, IRO) overlap";
	return NULL;
}

static const char *check_widths(uint64_t cap, uint64_t ecap)
{
	unsigned sagaw = VTD_CAP_SAGAW(cap), sllps = VTD_CAP_SLLPS(cap);
	unsigned mgaw = VTD_CAP_MGAW(cap);

	if (VTD_CAP_ND(cap) == 7)
		return "CAP.ND is a reserved encoding";
	if (!sagaw || (sagaw & 0x11))
		return "CAP.SAGAW names no depth of tables, or a reserved one";
	if (mgaw < 39 || mgaw > 57)
		return "CAP.MGAW is not between 39 and 57 bits";
	if (mgaw > (sagaw & 8 ? 57u : sagaw & 4 ? 48u : 39u))
		return "CAP.MGAW is wider than the deepest tables of CAP.SAGAW";
	if (sllps != 0 && sllps != 1 && sllps != 3)
		return "CAP.SLLPS is not 0, 1 or 3";
	if ((ecap & VTD_ECAP_PASID) && VTD_ECAP_PSS(ecap) > 19)
		return "PASIDs have at most 20 bits (ECAP.PSS)";
	if ((ecap & VTD_ECAP_SMTS) && !(ecap & (VTD_ECAP_FSTS | VTD_ECAP_SSTS)))
		return "scalable mode (SMTS) needs first- or second-stage translation (FSTS, SSTS)";
	return NULL;
}

static int check(uint64_t cap, uint64_t ecap, const char **why)
{
	const char *wrong;

	if (cap & VTD_CAP_RESERVED)
		return fail(why, -EINVAL, "CAP has reserved bits set");
	if (cap & (VTD_CAP_AFL | VTD_CAP_ECMDS))
		return fail(why, -EOPNOTSUPP,
		            "advanced fault logging and enhanced commands are not emulated");
	if (ecap & (VTD_ECAP_MTS | VTD_ECAP_VCS | VTD_ECAP_PMS))
		return fail(why, -EOPNOTSUPP,
		            "memory types (MTS), virtual commands (VCS) and performance "
		            "monitoring (PMS) are not emulated");
	wrong = check_layout(cap, ecap);
	if (!wrong)
		wrong = check_widths(cap, ecap);
	if (wrong)
		return fail(why, -EINVAL, wrong);
	for (unsigned i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		const struct rule *r = &rules[i];

		if ((cap & r->cap) == r->cap && (ecap & r->ecap) == r->ecap &&
		    (ecap & r->needs_ecap) != r->needs_ecap)
			return fail(why, -EINVAL, r->why);
	}
	return 0;
}

static const struct {
	uint32_t feature;
	uint64_t cap, ecap;
} features[] = {
	{SNEST_VTD_CACHING_MODE, VTD_CAP_CM, 0},
	{SNEST_VTD_QUEUE, 0, VTD_ECAP_QI},
	{SNEST_VTD_DEVICE_TLB, 0, VTD_ECAP_DT},
	{SNEST_VTD_PASS_THROUGH, 0, VTD_ECAP_PT},
	{SNEST_VTD_SNOOP, 0, VTD_ECAP_SC},
	{SNEST_VTD_PAGE_2M, SN_BIT(34), 0},
	{SNEST_VTD_PAGE_1G, SN_BIT(35), 0},
	{SNEST_VTD_SCALABLE, 0, VTD_ECAP_SMTS},
	{SNEST_VTD_FIRST_STAGE, 0, VTD_ECAP_FSTS},
	{SNEST_VTD_SECOND_STAGE, 0, VTD_ECAP_SSTS},
	{SNEST_VTD_NESTED, 0, VTD_ECAP_NEST},
	{SNEST_VTD_FIRST_1G, VTD_CAP_FS1GP, 0},
	{SNEST_VTD_FIRST_5LEVEL, VTD_CAP_FS5LP, 0},
	{SNEST_VTD_SECOND_AD, 0, VTD_ECAP_SSADS},
	{SNEST_VTD_EXTENDED_A, 0, VTD_ECAP_EAFS},
	{SNEST_VTD_SUPERVISOR, 0, VTD_ECAP_SRS},
	{SNEST_VTD_PAGE_REQUESTS, 0, VTD_ECAP_PRS | VTD_ECAP_PDS},
	{SNEST_VTD_RID_PASID, 0, VTD_ECAP_RPS},
	{SNEST_VTD_PROTECTED_MEMORY, VTD_CAP_PLMR | VTD_CAP_PHMR, 0},
	{SNEST_VTD_INTERRUPTS, 0, VTD_ECAP_IR | VTD_ECAP_EIM},
	{SNEST_VTD_SRTP_INVALIDATES, VTD_CAP_ESRTPS, 0},
	{SNEST_VTD_COHERENT, 0, VTD_ECAP_C},
};

static int compose(const struct snest_vtd_config *c, uint64_t *cap, uint64_t *ecap,
                   const char **why)
{
	uint32_t known = 0, bits = c->address_bits ? c->address_bits : 48;
	uint32_t domain = c->domain_bits ? c->domain_bits : 16;
	uint32_t records = c->fault_records ? c->fault_records : 1;
	uint32_t mask = c->page_mask_bits ? c->page_mask_bits : DEFAULT_MAMV;

	if (c->cap || c->ecap)
		return fail(why, -EINVAL, "cap and ecap are given without SNEST_VTD_RAW");
	if (bits != 39 && bits != 48 && bits != 57)
		return fail(why, -EINVAL, "address_bits is not 39, 48 or 57");
	if (domain < 4 || domain > 16 || domain % 2)
		return fail(why, -EINVAL, "domain_bits is not an even number from 4 to 16");
	if (c->pasid_bits > 20)
		return fail(why, -EINVAL, "pasid_bits is more than 20");
	if (records > (VTD_PAGE_SIZE - DEFAULT_FRO) / 16)
		return fail(why, -EINVAL, "more fault_records than fit into the register page");
	if (mask > 63)
		return fail(why, -EINVAL, "page_mask_bits is more than 63");

	*cap = (domain - 4) / 2 | (uint64_t)(bits - 1) << 16 | VTD_CAP_PSI | VTD_CAP_DWD |
	       VTD_CAP_DRD | (uint64_t)(DEFAULT_FRO / 16) << 24 | (uint64_t)(records - 1) << 40 |
	       (uint64_t)mask << 48;
	*cap |= bits == 39 ? 0x200 : bits == 48 ? 0x600 : 0xe00;
	*ecap = (uint64_t)(DEFAULT_IRO / 16) << 8;
	for (unsigned i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		known |= features[i].feature;
		if (c->features & features[i].feature) {
			*cap |= features[i].cap;
			*ecap |= features[i].ecap;
		}
	}
	if (c->features & ~known)
		return fail(why, -EOPNOTSUPP, "features has unknown bits set");
	if (c->pasid_bits)
		*ecap |= VTD_ECAP_PASID | (uint64_t)(c->pasid_bits - 1) << VTD_ECAP_PSS_SHIFT;
	return 0;
}

int sn_vtd_capabilities(struct snest_vtd *vtd, const struct snest_vtd_config *c, const char **why)
{
	uint64_t cap = c->cap, ecap = c->ecap;
	uint32_t haw;
	int ret = 0;

	if (c->flags & ~(SNEST_VTD_RAW | SNEST_VTD_SYNC))
		return fail(why, -EOPNOTSUPP, "flags has unknown bits set");
	if (c->version > 0xff)
		return fail(why, -EINVAL, "version has more than 8 bits");
	if (!(c->flags & SNEST_VTD_RAW))
		ret = compose(c, &cap, &ecap, why);
	else if (c->features || c->address_bits || c->domain_bits || c->pasid_bits ||
	         c->fault_records || c->page_mask_bits)
		ret = fail(why, -EINVAL, "SNEST_VTD_RAW goes without the fields that compose cap");
	if (!ret)
		ret = check(cap, ecap, why);
	if (ret)
		return ret;
	haw = c->haw_bits ? c->haw_bits : VTD_CAP_MGAW(cap);
	if (!c->haw_bits && haw > 52)
		haw = 52;
	if (haw < 32 || haw > 52)
		return fail(why, -EINVAL, "haw_bits is not between 32 and 52");
	vtd->cap = cap;
	vtd->ecap = ecap;
	vtd->haw = haw;
	vtd->domain_mask = (1u << (4 + 2 * VTD_CAP_ND(cap))) - 1;
	vtd->budget = c->budget ? c->budget : DEFAULT_BUDGET;
	vtd->bindings_max = c->bindings_max ? c->bindings_max : DEFAULT_BINDINGS;
	vtd->table_bytes_max = c->table_bytes_max;
	vtd->sync_entries_max = c->sync_entries_max;
	vtd->sync = c->flags & SNEST_VTD_SYNC;
	return 0;
}
