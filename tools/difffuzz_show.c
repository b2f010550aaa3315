/* SPDX-License-Identifier: MIT */
/*
 * A difference as text or JSON, and as an image for `snest walk`
 * (tools/difffuzz.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tools/difffuzz.h"
#include "tools/stages.h"
#include "tools/walk_view.h"

/* Text shows so many entries; JSON shows all. */
#define ENTRIES_SHOWN 24

const char *sn_diff_stage_text(const struct snest_stage *stage, char buf[SN_DIFF_STAGE_TEXT])
{
	const struct {
		const char *key;
		unsigned value;
	} numbers[] = {
		{"levels", stage->levels},
		{"ia-bits", stage->ia_bits},
		{"oa-bits", stage->oa_bits},
		{"ia-bits-high", stage->ia_bits_high},
	};
	const char *flag, *joint = ",flags=";
	FILE *out = fmemopen(buf, SN_DIFF_STAGE_TEXT, "w");
	unsigned next = 0;

	buf[0] = '\0';
	if (!out)
		return buf;
	fprintf(out, "format=%s,root=0x%" PRIx64, snest_format_name(stage->format), stage->root);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		if (numbers[i].value)
			fprintf(out, ",%s=%u", numbers[i].key, numbers[i].value);
	}
	if (stage->ia_bits_high)
		fprintf(out, ",root-high=0x%" PRIx64, stage->root_high);
	if (stage->granule_lg2)
		fprintf(out, ",granule=%uK", 1u << (stage->granule_lg2 - 10));
	if (stage->granule_high_lg2)
		fprintf(out, ",granule-high=%uK", 1u << (stage->granule_high_lg2 - 10));
	if (stage->rights)
		fprintf(out, ",rights=%s%s%s", stage->rights & SNEST_READ ? "r" : "",
		        stage->rights & SNEST_WRITE ? "w" : "",
		        stage->rights & SNEST_EXEC ? "x" : "");
	while ((flag = sn_stage_flag(stage, &next))) {
		fprintf(out, "%s%s", joint, flag);
		joint = "+";
	}
	fclose(out);
	return buf;
}

/* The memory as it is loaded, to a sparse file. */
static int save(const struct sn_diff *d, const char *file)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), error = 0;

	if (fd < 0)
		return sn_tool_error(d->tool, "--save %s: %s", file, strerror(errno));
	if (ftruncate(fd, (off_t)IMAGE_BYTES))
		error = errno;
	for (uint64_t pages = d->used; pages && !error; pages &= pages - 1) {
		size_t page = (size_t)__builtin_ctzll(pages);
		ssize_t n = pwrite(fd, d->words + page * 512, 4096, (off_t)page * 4096);

		error = n == 4096 ? 0 : n < 0 ? errno : ENOSPC;
	}
	if (close(fd) && !error)
		error = errno;
	return error ? sn_tool_error(d->tool, "--save %s: %s", file, strerror(error)) : 0;
}

/* The command that shows the walk in the saved image. */
static void command(const struct sn_diff *d, const struct sn_diff_report *report, FILE *out)
{
	const struct sn_diff_stage *s = &d->stage[report->reduced->stage];
	const struct sn_diff_question *q = &report->reduced->question[report->found.question];
	char text[SN_DIFF_STAGE_TEXT];

	sn_tool_quoted(out, d->tool->program);
	fputs(" walk -m ", out);
	sn_tool_quoted(out, report->image);
	/* The last '@' counts: one in the name does no harm if there is one behind it. */
	fputs("@0 -m ", out);
	sn_tool_quoted(out, report->image);
	fprintf(out, "@0x%" PRIx64 " --stage %s --access %s%s%s%s%s 0x%" PRIx64, s->high,
	        sn_diff_stage_text(&s->stage, text), q->access & SNEST_RIGHTS ? "" : "none",
	        q->access & SNEST_READ ? "r" : "", q->access & SNEST_WRITE ? "w" : "",
	        q->access & SNEST_EXEC ? "x" : "",
	        q->access & SNEST_PRIVILEGED ? " --privileged" : "", q->iova);
}

/* ---- Text ------------------------------------------------------------------------ */

/* Whether the walker gave an answer to the question that is shown. */
static bool answered(const struct sn_diff_report *report)
{
	switch (report->found.class.kind) {
	case SN_DIFF_ERROR:
	case SN_DIFF_CRASH:
	case SN_DIFF_HANG:
		return false;
	default:
		return report->steady;
	}
}

static void show_answer(const struct sn_diff *d, const struct sn_diff_report *report)
{
	const struct snest_walker_answer *a =
		sn_diff_walker_answer(&d->walker, report->found.question);
	uint32_t reports = d->walker.declared.reports;
	char size[SN_SIZE_TEXT], rights[4];

	printf("  %s%s%s: ", sn_tool_colour(d->tool, SN_COLOUR_BAD), d->walker.name,
	       sn_tool_colour(d->tool, SN_COLOUR_NONE));
	if (!answered(report)) {
		printf("%s\n", report->steady ? d->walker.text : "(not when it is asked again)");
		return;
	}
	if (a->outcome == SNEST_WALKER_TRANSLATED) {
		printf("GPA 0x%" PRIx64, a->gpa);
		if (reports & SNEST_WALKER_SIZE)
			printf("  %s", sn_size_lg2(a->lg2 & 63, size));
		if (reports & SNEST_WALKER_RIGHTS)
			printf(" %s", sn_rights_text(a->rights, rights));
	} else {
		printf("fault");
		if (reports & SNEST_WALKER_REASON)
			printf(": %s", snest_fault_reason_name(a->reason));
	}
	if (reports & SNEST_WALKER_LEVEL)
		printf(", level %u", a->level);
	fputc('\n', stdout);
}

/* Words in which the two leave memory. Before the case is loaded anew. */
static void show_memory(const struct sn_diff *d)
{
	for (size_t i = 0; i < IMAGE_WORDS; i++) {
		if (d->words[i] != d->walker.words[i])
			printf("  memory at 0x%zx afterwards: snest 0x%016" PRIx64
			       ", %s 0x%016" PRIx64 "\n",
			       i * 8, d->words[i], d->walker.name, d->walker.words[i]);
	}
}

static void show_entries(const struct sn_diff_case *c)
{
	size_t count = c->bytes / RECORD_BYTES;

	printf("  memory, as far as it is not 0:\n");
	for (size_t i = 0; i < count && i < ENTRIES_SHOWN; i++) {
		const uint8_t *at = c->records + i * RECORD_BYTES;

		printf("    0x%010" PRIx64 ": 0x%016" PRIx64 "\n", fuzz_get(at, 2) * 8,
		       fuzz_get(at + 2, 8));
	}
	if (count > ENTRIES_SHOWN)
		printf("    and %zu more words\n", count - ENTRIES_SHOWN);
}

static void show_text(struct sn_diff *d, const struct sn_diff_report *report,
                      const struct sn_walk_view *view, const struct sn_walk_record *record)
{
	const struct sn_diff_case *c = report->reduced;
	char access[SN_ACCESS_TEXT];

	sn_walk_show_source(view);
	for (unsigned i = 0; i < c->questions; i++) {
		if (i != report->found.question)
			printf("  with it was asked: IOVA 0x%" PRIx64 ", %s\n", c->question[i].iova,
			       sn_access_text(c->question[i].access, access));
	}
	sn_walk_show(view, record);
	show_answer(d, report);
	show_entries(c);
	printf("  again:  %s\n", report->again);
	if (report->image) {
		printf("  walk:   ");
		command(d, report, stdout);
		fputc('\n', stdout);
	}
}

/* ---- JSON ------------------------------------------------------------------------ */

static void json_answer(const struct sn_diff *d, const struct sn_diff_report *report)
{
	const struct snest_walker_answer *a =
		sn_diff_walker_answer(&d->walker, report->found.question);
	struct sn_json *json = report->json;
	uint32_t reports = d->walker.declared.reports;
	char rights[4];

	sn_json_open(json, "walker", '{');
	if (!answered(report)) {
		sn_json_string(json, "outcome", "none");
		sn_json_string(json, "text", report->steady ? d->walker.text : NULL);
		sn_json_close(json, '}');
		return;
	}
	if (a->outcome == SNEST_WALKER_TRANSLATED) {
		sn_json_string(json, "outcome", "translated");
		sn_json_hex(json, "gpa", a->gpa);
		if (reports & SNEST_WALKER_SIZE)
			sn_json_number(json, "size_lg2", a->lg2);
		if (reports & SNEST_WALKER_RIGHTS)
			sn_json_string(json, "rights", sn_rights_text(a->rights, rights));
	} else {
		sn_json_string(json, "outcome", "fault");
		if (reports & SNEST_WALKER_REASON)
			sn_json_number(json, "reason", a->reason);
	}
	if (reports & SNEST_WALKER_LEVEL)
		sn_json_number(json, "level", a->level);
	sn_json_close(json, '}');
}

static void json_command(const struct sn_diff *d, const struct sn_diff_report *report)
{
	char *text = NULL;
	size_t size;
	FILE *out = report->image ? open_memstream(&text, &size) : NULL;

	if (out) {
		command(d, report, out);
		fclose(out);
	}
	sn_json_string(report->json, "image", report->image);
	sn_json_string(report->json, "walk", text);
	free(text);
}

static void show_json(struct sn_diff *d, const struct sn_diff_report *report,
                      const struct sn_walk_view *view, const struct sn_walk_record *record)
{
	const struct sn_diff_case *c = report->reduced;
	struct sn_json *json = report->json;
	char text[SN_DIFF_NAME], stage[SN_DIFF_STAGE_TEXT];

	sn_json_open(json, NULL, '{');
	sn_json_string(json, "class", sn_diff_class_text(report->found.class, text));
	sn_json_bool(json, "steady", report->steady);
	sn_json_number(json, "case", c->number);
	sn_json_string(json, "stage", sn_diff_stage_text(&d->stage[c->stage].stage, stage));
	sn_json_hex(json, "memory_high", d->stage[c->stage].high);
	sn_json_number(json, "question", report->found.question);
	sn_json_open(json, "questions", '[');
	for (unsigned i = 0; i < c->questions; i++) {
		char rights[4];

		sn_json_open(json, NULL, '{');
		sn_json_hex(json, "iova", c->question[i].iova);
		sn_json_string(json, "access", sn_rights_text(c->question[i].access, rights));
		sn_json_bool(json, "privileged", c->question[i].access & SNEST_PRIVILEGED);
		sn_json_close(json, '}');
	}
	sn_json_close(json, ']');
	sn_json_number(json, "entries_found", report->entries);
	sn_json_open(json, "entries", '[');
	for (size_t i = 0; i < c->bytes / RECORD_BYTES; i++) {
		const uint8_t *at = c->records + i * RECORD_BYTES;

		sn_json_open(json, NULL, '{');
		sn_json_hex(json, "addr", fuzz_get(at, 2) * 8);
		sn_json_hex(json, "word", fuzz_get(at + 2, 8));
		sn_json_close(json, '}');
	}
	sn_json_close(json, ']');
	sn_json_open(json, "walks", '[');
	sn_walk_json(view, record);
	sn_json_close(json, ']');
	json_answer(d, report);
	sn_json_string(json, "again", report->again);
	json_command(d, report);
	sn_json_close(json, '}');
}

int sn_diff_show(struct sn_diff *d, const struct sn_diff_report *report)
{
	const struct sn_diff_case *c = report->reduced;
	const struct sn_diff_question *q = &c->question[report->found.question];
	struct sn_diff_stage *s = &d->stage[c->stage];
	const char *file = report->image ? report->image : "memory";
	struct sn_images images = {
		.image = {{.file = file, .mapped = IMAGE_BYTES},
	                  {.file = file, .base = s->high, .mapped = IMAGE_BYTES}},
		.count = 2,
	};
	struct sn_walk_view view = {
		.tool = d->tool,
		.images = &images,
		.vm = s->vm,
		.stages = &s->stage,
		.count = 1,
		.request = {.size = sizeof(view.request),
	                    .pasid = SNEST_NO_PASID,
	                    .iova = q->iova,
	                    .access = q->access},
		.json = report->json,
	};
	struct sn_walk_record record = {.steps = NULL};
	char text[SN_DIFF_NAME];
	int status = 0, ret;

	if (!report->json) {
		printf("%sdifference %u: %s%s: %s\n", sn_tool_colour(d->tool, SN_COLOUR_HEAD),
		       report->number, sn_diff_class_text(report->found.class, text),
		       sn_tool_colour(d->tool, SN_COLOUR_NONE),
		       sn_diff_kind_sentence((enum sn_diff_kind)report->found.class.kind));
		if (report->steady)
			printf("  case %" PRIu64 ", made small: %u words of memory became %zu\n",
			       c->number, report->entries, c->bytes / RECORD_BYTES);
		else
			printf("  case %" PRIu64 "; asked alone, it does not differ: the walker "
			       "remembers something\n",
			       c->number);
		if (report->found.class.kind == SN_DIFF_MEMORY)
			show_memory(d);
	}
	sn_diff_case_load(d, c, true);
	if (report->image)
		status = save(d, report->image);
	ret = sn_walk_record(&view, &record);
	if (ret) {
		free(record.steps);
		return sn_tool_error(d->tool, "cannot walk: %s", strerror(-ret));
	}
	/* The size of the page, which walkers report; not what fits into this small memory. */
	if (record.result.outcome != SNEST_WALK_FAULT)
		record.result.lg2 = record.result.stage[0].lg2;
	if (report->json)
		show_json(d, report, &view, &record);
	else
		show_text(d, report, &view, &record);
	free(record.steps);
	return status;
}
