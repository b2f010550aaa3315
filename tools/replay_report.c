/* SPDX-License-Identifier: MIT */
/*
 * What a replay found, for people and as JSON.
 */
#include <inttypes.h>
#include "tools/replay.h"

static const char *const event_names[] = {
	[SN_TRACE_COMMENT] = "comments",   [SN_TRACE_RAM] = "RAM regions",
	[SN_TRACE_WORDS] = "table writes", [SN_TRACE_REGISTER] = "register writes",
	[SN_TRACE_COMMAND] = "commands",   [SN_TRACE_STORE] = "stores by the VMM",
	[SN_TRACE_ANSWER] = "translations",
};

static void print_answer(const char *label, const struct sn_answer *a)
{
	char rights[4], size[SN_SIZE_TEXT];

	if (a->ok)
		printf("    %-9s 0x%" PRIx64 " %s %s\n", label, a->gpa,
		       sn_rights_text(a->rights, rights), sn_size_lg2(a->lg2, size));
	else if (a->code)
		printf("    %-9s fault 0x%x (%s)\n", label, a->code,
		       snest_fault_code_name("vtd", a->code) ? snest_fault_code_name("vtd", a->code)
		                                             : "unknown");
	else
		printf("    %-9s fault\n", label);
}

static void print_wrong(const struct sn_replay *r, const struct sn_wrong *w)
{
	printf("  %s:%" PRIu64 ": %s of %02x:%02x.%x at IOVA 0x%" PRIx64 ": %s\n", r->file, w->line,
	       w->write ? "write" : "read", w->rid >> 8, w->rid >> 3 & 31, w->rid & 7, w->iova,
	       w->judge);
	print_answer("expected", &w->expected);
	print_answer("got", &w->got);
	for (size_t i = 0; i < w->steps && i < sizeof(w->step) / sizeof(w->step[0]); i++) {
		const struct snest_walk_step *step = &w->step[i];
		char text[128];

		snest_format_describe(&w->context.stage[step->stage], step->level, step->entry,
		                      text, sizeof(text));
		printf("    stage %u %-6s at 0x%010" PRIx64 ": 0x%016" PRIx64 " %s\n", step->stage,
		       snest_format_level_name(&w->context.stage[step->stage], step->level),
		       step->entry_addr, step->entry, text);
	}
}

void sn_replay_report(const struct sn_replay *r)
{
	const struct sn_replay_counts *c = &r->counts;
	char bytes[SN_SIZE_TEXT];

	printf("%s%s%s\n", sn_tool_colour(r->tool, SN_COLOUR_HEAD), r->file,
	       sn_tool_colour(r->tool, SN_COLOUR_NONE));
	printf("  events      ");
	for (unsigned i = SN_TRACE_WORDS; i <= SN_TRACE_ANSWER; i++)
		printf("%s%" PRIu64 " %s", i == SN_TRACE_WORDS ? "" : ", ", c->events[i],
		       event_names[i]);
	printf("\n  translations %" PRIu64 " checked (%" PRIu64 " of them answered from the "
	       "recorder's cache): %" PRIu64 " agreed, %" PRIu64 " stale but legal, %s%" PRIu64
	       " wrong%s\n",
	       c->checked, c->cached, c->agreed, c->stale,
	       sn_tool_colour(r->tool, c->wrong ? SN_COLOUR_BAD : SN_COLOUR_GOOD), c->wrong,
	       sn_tool_colour(r->tool, SN_COLOUR_NONE));
	if (c->lookup_ns)
		printf("  lookups     %.0f thousand a second, misses and faults included\n",
		       (double)c->checked * 1e6 / (double)c->lookup_ns);
	if (r->doorbell.count)
		printf("  doorbells   %" PRIu64 " with %" PRIu64
		       " descriptors; until complete: median %.1f us, 99 %% %.1f us, longest %.1f "
		       "us\n",
		       r->doorbell.count, r->vtd_stats.descriptors,
		       (double)sn_histogram_at(&r->doorbell, 50) / 1e3,
		       (double)sn_histogram_at(&r->doorbell, 99) / 1e3,
		       (double)r->doorbell.max / 1e3);
	printf("  shadow      %s of tables at the end\n",
	       sn_size_bytes(r->vm_stats.table_bytes, bytes));
	if (r->options->mirror) {
		uint64_t maps, unmaps, batches, pages;

		sn_mirrors_totals(r->mirrors, &maps, &unmaps, &batches, &pages);
		printf("  mirrors     %" PRIu64 " comparisons over %" PRIu64 " entries, %s%" PRIu64
		       " wrong%s; %" PRIu64 " maps (%.2f pages each) and %" PRIu64
		       " unmaps in %" PRIu64 " batches\n",
		       c->mirror_checks, c->mirror_entries,
		       sn_tool_colour(r->tool, c->mirror_wrong ? SN_COLOUR_BAD : SN_COLOUR_GOOD),
		       c->mirror_wrong, sn_tool_colour(r->tool, SN_COLOUR_NONE), maps,
		       maps ? (double)pages / (double)maps : 0.0, unmaps, batches);
	}
	for (uint64_t i = 0; i < c->wrong && i < SN_WRONG_MAX; i++)
		print_wrong(r, &r->wrong[i]);
	printf("  replayed in %.2f s\n", (double)r->elapsed_ns / 1e9);
}
