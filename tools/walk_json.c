/* SPDX-License-Identifier: MIT */
/*
 * Walks and contexts as JSON (tools/walk_view.h). The schema is documented in
 * docs/man/snest-walk.1; members may be added, none changes its meaning.
 */
#include <stdlib.h>
#include "tools/stages.h"
#include "tools/walk_view.h"

static void rights(struct sn_json *json, const char *key, uint32_t value)
{
	char text[4];

	sn_json_string(json, key, sn_rights_text(value, text));
}

static void attributes(struct sn_json *json, uint32_t attr)
{
	const char *name;
	unsigned next = 0;

	sn_json_open(json, "attributes", '[');
	while ((name = sn_attr_name(attr, &next)))
		sn_json_string(json, NULL, name);
	sn_json_close(json, ']');
	sn_json_number(json, "memory_type", attr & SNEST_ATTR_MEMORY_TYPE);
}

static void stage_or_null(struct sn_json *json, const char *key, unsigned stage)
{
	if (stage == SNEST_NO_STAGE)
		sn_json_null(json, key);
	else
		sn_json_number(json, key, stage);
}

static void show_steps(const struct sn_walk_view *view, const struct sn_walk_record *record)
{
	struct sn_json *json = view->json;
	unsigned char *depths = sn_walk_depths(record);

	sn_json_open(json, "steps", '[');
	for (size_t i = 0; i < record->nsteps; i++) {
		const struct snest_walk_step *step = &record->steps[i];
		const struct snest_stage *stage = &view->stages[step->stage];
		char text[160];

		snest_format_describe(stage, step->level, step->entry, text, sizeof(text));
		sn_json_open(json, NULL, '{');
		sn_json_number(json, "stage", step->stage);
		sn_json_number(json, "level", step->level);
		sn_json_string(json, "level_name", snest_format_level_name(stage, step->level));
		stage_or_null(json, "for_stage", step->for_stage);
		if (step->for_stage == SNEST_NO_STAGE)
			sn_json_null(json, "for_level");
		else
			sn_json_number(json, "for_level", step->for_level);
		sn_json_number(json, "depth", depths ? depths[i] : 0);
		sn_json_hex(json, "entry_addr", step->entry_addr);
		sn_json_hex(json, "entry", step->entry);
		sn_json_string(json, "text", text);
		sn_json_close(json, '}');
	}
	sn_json_close(json, ']');
	free(depths);
}

static void show_fault(const struct sn_walk_view *view, const struct snest_fault *fault)
{
	struct sn_json *json = view->json;

	sn_json_open(json, "fault", '{');
	sn_json_number(json, "reason", fault->reason);
	sn_json_string(json, "text", snest_fault_reason_name(fault->reason));
	if (view->iommu && fault->code) {
		sn_json_number(json, "code", fault->code);
		sn_json_string(json, "code_name",
		               snest_fault_code_name(sn_iommu_name(view->iommu), fault->code));
	} else {
		sn_json_null(json, "code");
		sn_json_null(json, "code_name");
	}
	stage_or_null(json, "stage", fault->stage);
	sn_json_number(json, "level", fault->level);
	stage_or_null(json, "for_stage", fault->for_stage);
	sn_json_number(json, "for_level", fault->for_level);
	rights(json, "access", fault->access);
	sn_json_hex(json, "input", fault->input);
	sn_json_hex(json, "entry_addr", fault->entry_addr);
	sn_json_hex(json, "entry", fault->entry);
	sn_json_close(json, '}');
}

static void show_translation(const struct sn_walk_view *view, const struct snest_walk *result)
{
	const struct sn_image *image = sn_images_find(view->images, result->gpa);
	struct sn_json *json = view->json;

	sn_json_hex(json, "gpa", result->gpa);
	if (image) {
		sn_json_open(json, "image", '{');
		sn_json_string(json, "file", image->file);
		sn_json_hex(json, "offset", result->gpa - image->base);
		sn_json_close(json, '}');
	} else {
		sn_json_null(json, "image");
	}
	sn_json_number(json, "size_lg2", result->lg2);
	rights(json, "rights", result->rights);
	attributes(json, result->attr);
	sn_json_open(json, "stages", '[');
	for (unsigned i = 0; i < result->stages; i++) {
		const struct snest_walk_stage *stage = &result->stage[i];

		sn_json_open(json, NULL, '{');
		sn_json_hex(json, "input", stage->input);
		sn_json_hex(json, "output", stage->output);
		sn_json_number(json, "level", stage->level);
		sn_json_number(json, "size_lg2", stage->lg2);
		rights(json, "rights", stage->rights);
		attributes(json, stage->attr);
		sn_json_hex(json, "entry_addr", stage->entry_addr);
		sn_json_hex(json, "entry", stage->entry);
		sn_json_close(json, '}');
	}
	sn_json_close(json, ']');
}

void sn_walk_json(const struct sn_walk_view *view, const struct sn_walk_record *record)
{
	struct sn_json *json = view->json;
	bool fault = record->result.outcome == SNEST_WALK_FAULT;

	sn_json_open(json, NULL, '{');
	sn_json_hex(json, "iova", view->request.iova);
	rights(json, "access", view->request.access);
	sn_json_bool(json, "privileged", view->request.access & SNEST_PRIVILEGED);
	sn_json_string(json, "outcome", fault ? "fault" : "translated");
	if (fault)
		show_fault(view, &record->result.fault);
	else
		show_translation(view, &record->result);
	if (!view->quiet)
		show_steps(view, record);
	sn_json_close(json, '}');
}

static void show_context(const struct sn_walk_view *view)
{
	static const struct {
		uint32_t flag;
		const char *name;
	} flags[] = {
		{SNEST_CONTEXT_QUIET, "quiet"},
		{SNEST_CONTEXT_ATS, "ats"},
		{SNEST_CONTEXT_PRI, "pri"},
		{SNEST_CONTEXT_PRIVILEGED, "privileged"},
		{SNEST_CONTEXT_PASID, "pasid"},
		{SNEST_CONTEXT_SCALABLE, "scalable"},
		{SNEST_CONTEXT_MSI_FLAT, "msi-flat"},
		{SNEST_CONTEXT_T2GPA, "t2gpa"},
		{SNEST_CONTEXT_STALL, "stall"},
		{SNEST_CONTEXT_SUPPRESS, "suppress"},
		{SNEST_CONTEXT_UNPRIVILEGED, "unprivileged"},
		{SNEST_CONTEXT_DATA, "data"},
		{SNEST_CONTEXT_FETCH, "fetch"},
		{SNEST_CONTEXT_STALL_2, "stall-2"},
		{SNEST_CONTEXT_QUIET_2, "quiet-2"},
		{SNEST_CONTEXT_RAZ_WI, "raz-wi"},
		{SNEST_CONTEXT_SPLIT_ATS, "split-ats"},
	};
	static const char *const outcomes[] = {
		[SNEST_CONTEXT_STAGES] = "stages",
		[SNEST_CONTEXT_BLOCKED] = "blocked",
		[SNEST_CONTEXT_FAULT] = "fault",
	};
	const struct snest_context *context = view->context;
	struct sn_json *json = view->json;

	sn_json_open(json, "context", '{');
	sn_json_string(json, "iommu", sn_iommu_name(view->iommu));
	sn_json_number(json, "rid", view->request.rid);
	if (view->request.pasid == SNEST_NO_PASID)
		sn_json_null(json, "pasid");
	else
		sn_json_number(json, "pasid", view->request.pasid);
	sn_json_string(json, "outcome", outcomes[context->outcome]);
	sn_json_number(json, "domain", context->domain);
	sn_json_number(json, "space", context->space);
	rights(json, "rights", context->rights);
	sn_json_number(json, "ia_bits", context->ia_bits);
	sn_json_open(json, "flags", '[');
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (context->flags & flags[i].flag)
			sn_json_string(json, NULL, flags[i].name);
	}
	sn_json_close(json, ']');
	if (context->outcome == SNEST_CONTEXT_FAULT)
		show_fault(view, &context->fault);
	sn_json_close(json, '}');
}

void sn_walk_json_source(const struct sn_walk_view *view)
{
	struct sn_json *json = view->json;

	if (view->context)
		show_context(view);
	else
		sn_json_null(json, "context");
	sn_json_open(json, "stages", '[');
	for (unsigned i = 0; i < view->count; i++) {
		const struct snest_stage *stage = &view->stages[i];
		const char *flag;
		unsigned next = 0;

		sn_json_open(json, NULL, '{');
		sn_json_string(json, "format", snest_format_name(stage->format));
		sn_json_hex(json, "root", stage->root);
		sn_json_number(json, "levels", stage->levels);
		sn_json_number(json, "ia_bits", stage->ia_bits);
		sn_json_number(json, "oa_bits", stage->oa_bits);
		sn_json_number(json, "granule_lg2", stage->granule_lg2);
		if (stage->ia_bits_high) {
			sn_json_hex(json, "root_high", stage->root_high);
			sn_json_number(json, "ia_bits_high", stage->ia_bits_high);
			sn_json_number(json, "granule_high_lg2", stage->granule_high_lg2);
		}
		if (stage->rights)
			rights(json, "rights", stage->rights);
		sn_json_open(json, "flags", '[');
		while ((flag = sn_stage_flag(stage, &next)))
			sn_json_string(json, NULL, flag);
		sn_json_close(json, ']');
		sn_json_close(json, '}');
	}
	sn_json_close(json, ']');
}
