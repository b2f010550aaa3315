/* SPDX-License-Identifier: MIT */
/*
 * What a replay found, for people. The layout may change from version to
 * version; programs read the JSON (replay_json.c).
 */
#include <inttypes.h>
#include "tools/replay.h"

static const char *const event_names[] = {
	[SN_TRACE_COMMENT] = "comments",    [SN_TRACE_RAM] = "RAM regions",
	[SN_TRACE_WORDS] = "table writes",  [SN_TRACE_REGISTER] = "register writes",
	[SN_TRACE_COMMAND] = "commands",    [SN_TRACE_STORE] = "stores by the VMM",
	[SN_TRACE_ANSWER] = "translations",
};

static void print_answer(const char *label, const struct sn_answer *a)
{
	char rights[4], size[SN_SIZE_TEXT];

	if (a->ok)
		printf("    %-9s 0x%" PRIx64 " %s %s%s\n", label, a->gpa,
		       sn_rights_text(a->rights, rights), a->lg2 ? sn_size_lg2(a->lg2, size) : "",
		       a->cut ? "ends within a page" : "");
	else if (a->code)
		printf("    %-9s fault 0x%x (%s)\n", label, a->code,
		       snest_fault_code_name("vtd", a->code) ? snest_fault_code_name("vtd", a->code)
		                                             : "unknown");
	else
		printf("    %-9s fault\n", label);
}

static void print_request(const struct sn_replay *r, uint64_t line, uint32_t rid, uint32_t pasid)
{
	printf("  %s:%" PRIu64 ": %02x:%02x.%x", r->file, line, rid >> 8, rid >> 3 & 31, rid & 7);
	if (pasid != SNEST_NO_PASID)
		printf(" PASID 0x%x", pasid);
}

static void print_wrong(const struct sn_replay *r, const struct sn_wrong *w)
{
	print_request(r, w->line, w->rid, w->pasid);
	printf(" %s IOVA 0x%" PRIx64 ": %s\n", w->write ? "writes" : "reads", w->iova, w->judge);
	print_answer("expected", &w->expected);
	print_answer("got", &w->got);
	for (size_t i = 0; i < w->steps && i < sizeof(w->step) / sizeof(w->step[0]); i++) {
		const struct snest_walk_step *step = &w->step[i];
		const struct snest_stage *stage = &w->context.stage[step->stage];
		char text[128];

		snest_format_describe(stage, step->level, step->entry, text, sizeof(text));
		printf("    stage %u %-6s at 0x%010" PRIx64 ": 0x%016" PRIx64 " %s\n", step->stage,
		       snest_format_level_name(stage, step->level), step->entry_addr, step->entry,
		       text);
	}
}

static void print_piece(const char *label, const struct sn_answer *a)
{
	char rights[4];

	if (a->ok)
		printf("    %-9s 0x%" PRIx64 " %s\n", label, a->gpa,
		       sn_rights_text(a->rights, rights));
	else
		printf("    %-9s nothing\n", label);
}

static void print_mirror_wrong(const struct sn_replay *r, const struct sn_mirror_wrong *w)
{
	print_request(r, w->line, w->rid, SNEST_NO_PASID);
	printf(" IOVA 0x%" PRIx64 "-0x%" PRIx64 ": %s\n", w->first, w->last, w->judge);
	print_piece("tables", &w->tables);
	print_piece("mirror", &w->sink);
}

static void print_reader_wrong(const struct sn_replay *r, const struct sn_reader_wrong *w)
{
	print_request(r, w->line, w->rid, w->pasid);
	printf(" %s IOVA 0x%" PRIx64 " in a reader\n", w->write ? "writes" : "reads", w->iova);
	print_answer("got", &w->got);
	if (w->got.ok)
		printf("    its page bears the stamp 0x%" PRIx64 "\n", w->stamp);
	for (unsigned i = 0; i < 4; i++) {
		uint64_t legal = w->legal[i];
		char rights[4];

		if (legal == 0)
			printf("    legal is  fault\n");
		else if (legal != UINT64_MAX)
			printf("    legal is  0x%" PRIx64 " %s\n", legal & ~(uint64_t)4095,
			       sn_rights_text(legal & 3, rights));
	}
}

static void print_number(const struct sn_replay *r, uint64_t wrong)
{
	printf("%s%" PRIu64 " wrong%s",
	       sn_tool_colour(r->tool, wrong ? SN_COLOUR_BAD : SN_COLOUR_GOOD), wrong,
	       sn_tool_colour(r->tool, SN_COLOUR_NONE));
}

static void print_doorbells(const struct sn_replay *r)
{
	const struct sn_histogram *h = &r->doorbell;

	printf("  doorbells     %" PRIu64 " with %" PRIu64 " descriptors; until complete, us:",
	       h->count, r->vtd_stats.descriptors);
	printf(" median %.1f, 90 %% %.1f, 99 %% %.1f, 99.9 %% %.1f, longest %.1f\n",
	       (double)sn_histogram_at(h, 50) / 1e3, (double)sn_histogram_at(h, 90) / 1e3,
	       (double)sn_histogram_at(h, 99) / 1e3, (double)sn_histogram_at(h, 99.9) / 1e3,
	       (double)h->max / 1e3);
}

static void print_mirrors(const struct sn_replay *r)
{
	const struct sn_replay_counts *c = &r->counts;

	printf("  mirrors       %" PRIu64 " comparisons, %" PRIu64
	       " of them of everything, over %" PRIu64 " pieces: ",
	       c->mirror_checks, c->mirror_full, c->mirror_pieces);
	print_number(r, c->mirror_wrong);
	printf("\n  sinks         %" PRIu64 " maps of %" PRIu64 " pages (%.2f each) and %" PRIu64
	       " unmaps in %" PRIu64 " batches\n",
	       c->mirror_maps, c->mirror_pages,
	       c->mirror_maps ? (double)c->mirror_pages / (double)c->mirror_maps : 0.0,
	       c->mirror_unmaps, c->mirror_batches);
}

static void print_readers(const struct sn_replay *r)
{
	const struct sn_replay_counts *c = &r->counts;

	printf("  readers       %u made %" PRIu64 " lookups, %" PRIu64 " could be judged: ",
	       r->options->threads, c->reader_lookups, c->reader_judged);
	print_number(r, c->reader_wrong);
	putchar('\n');
}

void sn_replay_report(const struct sn_replay *r)
{
	const struct sn_replay_counts *c = &r->counts;
	char bytes[SN_SIZE_TEXT];

	printf("%s%s%s\n", sn_tool_colour(r->tool, SN_COLOUR_HEAD), r->file,
	       sn_tool_colour(r->tool, SN_COLOUR_NONE));
	printf("  events        ");
	for (unsigned i = SN_TRACE_WORDS; i <= SN_TRACE_ANSWER; i++)
		printf("%s%" PRIu64 " %s", i == SN_TRACE_WORDS ? "" : ", ", c->events[i],
		       event_names[i]);
	printf("\n  translations  %" PRIu64 " checked (%" PRIu64
	       " answered from the recorder's cache): %" PRIu64 " agreed, %" PRIu64
	       " stale but legal, ",
	       c->checked, c->cached, c->agreed, c->stale);
	print_number(r, c->wrong);
	if (c->lookup_ns)
		printf("\n  lookups       %.1f million a second, misses included",
		       (double)c->checked * 1e3 / (double)c->lookup_ns);
	putchar('\n');
	if (r->doorbell.count)
		print_doorbells(r);
	printf("  shadow        at most %s of tables\n", sn_size_bytes(c->table_bytes_max, bytes));
	if (r->mirrored)
		print_mirrors(r);
	if (r->options->threads)
		print_readers(r);
	if (c->commands_wrong)
		printf("  %sthe VMM consumed %" PRIu64 " commands that the front end did not%s\n",
		       sn_tool_colour(r->tool, SN_COLOUR_BAD), c->commands_wrong,
		       sn_tool_colour(r->tool, SN_COLOUR_NONE));
	for (uint64_t i = 0; i < c->wrong && i < SN_WRONG_MAX; i++)
		print_wrong(r, &r->wrong[i]);
	for (uint64_t i = 0; i < c->mirror_wrong && i < SN_WRONG_MAX; i++)
		print_mirror_wrong(r, &r->mirror_wrong[i]);
	for (uint64_t i = 0; i < c->reader_wrong && i < SN_WRONG_MAX; i++)
		print_reader_wrong(r, &r->reader_wrong[i]);
	if (r->saved_line)
		printf("  saved         in front of line %" PRIu64 " to %s\n", r->saved_line,
		       r->options->save);
	printf("  %s %.2f s\n", r->complete || r->saved_line ? "replayed in  " : "gave up after",
	       (double)r->elapsed_ns / 1e9);
}
