/* SPDX-License-Identifier: MIT */
/*
 * Walks and contexts as text for people (tools/walk_view.h). The layout may
 * change from version to version; programs read the JSON.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "tools/stages.h"
#include "tools/walk_view.h"

#define C(colour) sn_tool_colour(view->tool, SN_COLOUR_##colour)

const char *sn_attr_name(uint32_t attr, unsigned *next)
{
	static const struct {
		uint32_t flag;
		const char *name;
	} names[] = {
		{SNEST_ATTR_ACCESSED, "accessed"},     {SNEST_ATTR_DIRTY, "dirty"},
		{SNEST_ATTR_GLOBAL, "global"},         {SNEST_ATTR_USER, "user"},
		{SNEST_ATTR_SNOOP, "snoop"},           {SNEST_ATTR_DIRTIABLE, "dirtiable"},
		{SNEST_ATTR_CONTIGUOUS, "contiguous"},
	};

	while (*next < sizeof(names) / sizeof(names[0])) {
		unsigned i = (*next)++;

		if (attr & names[i].flag)
			return names[i].name;
	}
	return NULL;
}

const char *sn_attr_text(uint32_t attr, char buf[SN_ATTR_TEXT])
{
	const char *name;
	unsigned next = 0;
	int n = 0;

	buf[0] = '\0';
	while ((name = sn_attr_name(attr, &next)))
		n += snprintf(buf + n, (size_t)(SN_ATTR_TEXT - n), "%s%s", n ? " " : "", name);
	if (attr & SNEST_ATTR_MEMORY_TYPE)
		snprintf(buf + n, (size_t)(SN_ATTR_TEXT - n), "%stype %u", n ? " " : "",
		         attr & SNEST_ATTR_MEMORY_TYPE);
	return buf;
}

const char *sn_access_text(uint32_t access, char buf[SN_ACCESS_TEXT])
{
	snprintf(buf, SN_ACCESS_TEXT, "%s%s%s%s%s", access & SNEST_READ ? " read" : "",
	         access & SNEST_WRITE ? " write" : "", access & SNEST_EXEC ? " execute" : "",
	         access & SNEST_RIGHTS ? "" : " no access",
	         access & SNEST_PRIVILEGED ? ", privileged" : "");
	return buf + 1;
}

static void show_fault(const struct sn_walk_view *view, const struct snest_fault *fault)
{
	const char *name = fault->code && view->iommu
	                           ? snest_fault_code_name(sn_iommu_name(view->iommu), fault->code)
	                           : NULL;

	printf("  %sfault: %s%s", C(BAD), snest_fault_reason_name(fault->reason), C(NONE));
	if (fault->code)
		printf(", %s code 0x%x%s%s%s", view->iommu ? sn_iommu_name(view->iommu) : "",
		       fault->code, name ? " (" : "", name ? name : "", name ? ")" : "");
	fputc('\n', stdout);
	if (fault->stage < view->count) {
		printf("    refused by stage %u, level %u (%s), for its input 0x%" PRIx64 "\n",
		       fault->stage, fault->level,
		       snest_format_level_name(&view->stages[fault->stage], fault->level),
		       fault->input);
		if (fault->for_level == SNEST_LEVEL_STRUCTURE && fault->for_stage < view->count)
			printf("    while a structure behind it was being read\n");
		else if (fault->for_stage < view->count)
			printf("    while the level %u entry of stage %u was being read\n",
			       fault->for_level, fault->for_stage);
	}
	if (fault->reason == SNEST_FAULT_TABLE_ACCESS)
		printf("    entry at 0x%" PRIx64 ": no memory there\n", fault->entry_addr);
	else if (fault->entry_addr || fault->entry)
		printf("    entry at 0x%" PRIx64 ": 0x%016" PRIx64 "\n", fault->entry_addr,
		       fault->entry);
}

static void show_steps(const struct sn_walk_view *view, const struct sn_walk_record *record)
{
	unsigned char *depths = sn_walk_depths(record);

	for (size_t i = 0; i < record->nsteps; i++) {
		const struct snest_walk_step *step = &record->steps[i];
		const struct snest_stage *stage = &view->stages[step->stage];
		char text[160];

		snest_format_describe(stage, step->level, step->entry, text, sizeof(text));
		printf("  %s%*sstage %u %-6s 0x%010" PRIx64 ": 0x%016" PRIx64 "  %s%s\n",
		       depths && depths[i] ? C(DIM) : "", depths ? 2 * depths[i] : 0, "",
		       step->stage, snest_format_level_name(stage, step->level), step->entry_addr,
		       step->entry, text, depths && depths[i] ? C(NONE) : "");
	}
	free(depths);
}

/* What each stage contributed, where there is more than one. */
static void show_stages(const struct snest_walk *result)
{
	for (unsigned i = 0; i < result->stages && result->stages > 1; i++) {
		const struct snest_walk_stage *stage = &result->stage[i];
		char size[SN_SIZE_TEXT], rights[4], attr[SN_ATTR_TEXT];

		sn_attr_text(stage->attr, attr);
		printf("  stage %u: 0x%" PRIx64 " -> 0x%" PRIx64 "  %s %s%s%s\n", i, stage->input,
		       stage->output, sn_size_lg2(stage->lg2, size),
		       sn_rights_text(stage->rights, rights), attr[0] ? " " : "", attr);
	}
}

void sn_walk_show(const struct sn_walk_view *view, const struct sn_walk_record *record)
{
	const struct snest_walk *result = &record->result;
	char access[SN_ACCESS_TEXT], size[SN_SIZE_TEXT], rights[4], attr[SN_ATTR_TEXT];
	const struct sn_image *image;

	printf("%sIOVA 0x%" PRIx64 "%s, %s\n", C(HEAD), view->request.iova, C(NONE),
	       sn_access_text(view->request.access, access));
	if (!view->quiet) {
		show_steps(view, record);
		if (result->outcome != SNEST_WALK_FAULT)
			show_stages(result);
	}
	if (result->outcome == SNEST_WALK_FAULT) {
		show_fault(view, &result->fault);
		return;
	}
	printf("  %sGPA 0x%" PRIx64 "%s  %s %s %s", C(GOOD), result->gpa, C(NONE),
	       sn_size_lg2(result->lg2, size), sn_rights_text(result->rights, rights),
	       sn_attr_text(result->attr, attr));
	image = sn_images_find(view->images, result->gpa);
	if (image)
		printf("%s(%s + 0x%" PRIx64 ")\n", attr[0] ? " " : "", image->file,
		       result->gpa - image->base);
	else
		printf("%s(in no image)\n", attr[0] ? " " : "");
}

static void show_stage_list(const struct sn_walk_view *view)
{
	for (unsigned i = 0; i < view->count; i++) {
		const struct snest_stage *stage = &view->stages[i];
		const char *flag;
		unsigned next = 0;

		printf("  stage %u: %s, root 0x%" PRIx64, i, snest_format_name(stage->format),
		       stage->root);
		if (stage->ia_bits_high)
			printf(" and 0x%" PRIx64, stage->root_high);
		if (stage->levels)
			printf(", %u levels", stage->levels);
		if (stage->ia_bits)
			printf(", %u bits in", stage->ia_bits);
		if (stage->oa_bits)
			printf(", %u bits out", stage->oa_bits);
		if (stage->granule_lg2)
			printf(", granule %uK", 1u << (stage->granule_lg2 - 10));
		while ((flag = sn_stage_flag(stage, &next)))
			printf(", %s", flag);
		fputc('\n', stdout);
	}
}

void sn_walk_show_source(const struct sn_walk_view *view)
{
	const struct snest_context *context = view->context;

	if (view->quiet)
		return;
	if (!context) {
		show_stage_list(view);
		return;
	}
	if (context->iommu == SNEST_IOMMU_SMMU || context->iommu == SNEST_IOMMU_RISCV)
		printf("%s%s 0x%x%s", C(HEAD),
		       context->iommu == SNEST_IOMMU_SMMU ? "Stream" : "Device", view->request.rid,
		       C(NONE));
	else
		printf("%sRID %02x:%02x.%x%s", C(HEAD), view->request.rid >> 8,
		       view->request.rid >> 3 & 31, view->request.rid & 7, C(NONE));
	if (view->request.pasid != SNEST_NO_PASID)
		printf(", PASID 0x%x", view->request.pasid);
	switch (context->outcome) {
	case SNEST_CONTEXT_FAULT:
		printf(": no context\n");
		break;
	case SNEST_CONTEXT_BLOCKED:
		printf(": requests are refused without a record\n");
		break;
	default:
		printf(": domain %u, space %u%s%s%s%s%s%s\n", context->domain, context->space,
		       context->count ? "" : ", pass-through",
		       context->flags & SNEST_CONTEXT_SCALABLE ? ", scalable mode" : "",
		       context->flags & SNEST_CONTEXT_QUIET ? ", faults not recorded" : "",
		       context->flags & SNEST_CONTEXT_ATS ? ", ATS" : "",
		       context->flags & SNEST_CONTEXT_PRI ? ", PRI" : "",
		       context->flags & SNEST_CONTEXT_PRIVILEGED ? ", privileged" : "");
		show_stage_list(view);
	}
}
