/* SPDX-License-Identifier: MIT */
/*
 * Listing all mapped runs of a range (tools/walk_view.h).
 *
 * The library is asked in slices of bounded work, so that progress can be
 * shown and hostile tables end at the caller's budget. A run that a slice cut
 * in two is joined again here.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "tools/walk_view.h"

/* Entries examined between two looks at the clock: some milliseconds. */
#define SLICE ((uint64_t)1 << 20)
#define PROGRESS_AFTER_NS ((uint64_t)1000000000)
#define PROGRESS_EVERY_NS ((uint64_t)250000000)

struct listing {
	const struct sn_walk_view *view;
	uint32_t rights_mask; /* what leads to the tables grants */
	struct snest_run run; /* found, not yet shown: the next may continue it */
	bool pending;
	uint64_t runs;
	uint64_t bytes;         /* mapped; saturates */
	uint64_t bytes_nowhere; /* of these, in no image */
	uint64_t tables, entries;
};

static uint64_t add(uint64_t a, uint64_t b)
{
	return a + b < a ? UINT64_MAX : a + b;
}

/* Bytes of first..last; all 2^64 of them count as one less. */
static uint64_t length(uint64_t first, uint64_t last)
{
	return add(last - first, 1);
}

static void show_run(struct listing *l)
{
	const struct snest_run *run = &l->run;
	uint64_t bytes = length(run->first, run->last);
	char size[SN_SIZE_TEXT], page[SN_SIZE_TEXT], rights[4];
	const struct sn_walk_view *view = l->view;
	const struct sn_image *image = NULL;

	if (!l->pending)
		return;
	l->pending = false;
	l->runs++;
	l->bytes = add(l->bytes, bytes);
	if (run->outcome == SNEST_WALK_HOST)
		image = sn_images_find(view->images, run->addr);
	else
		l->bytes_nowhere = add(l->bytes_nowhere, bytes);
	sn_rights_text(run->rights, rights);
	if (!view->json) {
		printf("0x%016" PRIx64 " 0x%016" PRIx64 " %9s  0x%013" PRIx64 " %s %8s  %s\n",
		       run->first, run->last, sn_size_bytes(bytes, size), run->addr, rights,
		       sn_size_lg2(run->lg2, page), image ? image->file : "-");
		return;
	}
	sn_json_open(view->json, NULL, '{');
	sn_json_hex(view->json, "first", run->first);
	sn_json_hex(view->json, "last", run->last);
	sn_json_hex(view->json, "gpa", run->addr);
	sn_json_string(view->json, "rights", rights);
	sn_json_number(view->json, "size_lg2", run->lg2);
	sn_json_string(view->json, "image", image ? image->file : NULL);
	sn_json_close(view->json, '}');
}

/*
 * Prints inside the library's read section. That may block, but nobody in this
 * process waits for readers.
 */
static int visit(void *opaque, const struct snest_run *found)
{
	struct listing *l = opaque;
	struct snest_run *run = &l->run;
	struct snest_run next = *found;

	next.rights &= (uint8_t)l->rights_mask;
	if (!next.rights)
		return 0;
	if (l->pending && run->outcome == next.outcome && run->rights == next.rights &&
	    run->last + 1 == next.first && run->addr + (next.first - run->first) == next.addr) {
		run->last = next.last;
		if (run->lg2 < next.lg2)
			run->lg2 = next.lg2;
		return 0;
	}
	show_run(l);
	*run = next;
	l->pending = true;
	return 0;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* One line on the terminal that is written over again and again. */
static void progress(const struct listing *l, uint64_t at)
{
	fprintf(stderr, "\r\033[K%" PRIu64 " million entries, %" PRIu64 " runs, at 0x%" PRIx64,
	        l->entries / 1000000, l->runs, at);
}

static int enumerate(struct listing *l, struct snest_walk_range *range, uint64_t budget)
{
	const struct sn_walk_view *view = l->view;
	bool terminal = isatty(STDERR_FILENO) && (view->json || !isatty(STDOUT_FILENO));
	uint64_t shown = now_ns() + PROGRESS_AFTER_NS - PROGRESS_EVERY_NS;
	bool dirty = false;
	int ret;

	for (;;) {
		uint64_t slice =
			budget && budget - l->entries < SLICE ? budget - l->entries : SLICE;

		range->budget = slice;
		ret = snest_walk_range(view->vm, view->stages, view->count, range, visit, l);
		l->entries = range->entries;
		if (ret != -EAGAIN || (budget && l->entries >= budget) || ferror(stdout))
			break;
		if (terminal && now_ns() - shown > PROGRESS_EVERY_NS && now_ns() > shown) {
			progress(l, range->first);
			shown = now_ns();
			dirty = true;
		}
	}
	if (dirty)
		fputs("\r\033[K", stderr);
	l->tables = range->tables;
	show_run(l);
	return ret;
}

static void show_total(const struct listing *l, bool complete, uint64_t resume)
{
	const struct sn_walk_view *view = l->view;
	char size[SN_SIZE_TEXT], nowhere[SN_SIZE_TEXT];

	if (view->json) {
		sn_json_close(view->json, ']');
		sn_json_bool(view->json, "complete", complete);
		if (complete)
			sn_json_null(view->json, "resume");
		else
			sn_json_hex(view->json, "resume", resume);
		sn_json_open(view->json, "total", '{');
		sn_json_number(view->json, "runs", l->runs);
		sn_json_hex(view->json, "bytes", l->bytes);
		sn_json_hex(view->json, "bytes_in_no_image", l->bytes_nowhere);
		sn_json_number(view->json, "tables", l->tables);
		sn_json_number(view->json, "entries", l->entries);
		sn_json_close(view->json, '}');
		return;
	}
	printf("%s%" PRIu64 " run%s, %s mapped", sn_tool_colour(view->tool, SN_COLOUR_HEAD),
	       l->runs, l->runs == 1 ? "" : "s", sn_size_bytes(l->bytes, size));
	if (l->bytes_nowhere)
		printf(" (%s in no image)", sn_size_bytes(l->bytes_nowhere, nowhere));
	printf(", %" PRIu64 " table%s, %" PRIu64 " entries%s\n", l->tables,
	       l->tables == 1 ? "" : "s", l->entries, sn_tool_colour(view->tool, SN_COLOUR_NONE));
}

int sn_walk_list(const struct sn_walk_view *view, uint64_t first, uint64_t last, uint64_t budget)
{
	struct listing l = {.view = view, .rights_mask = SNEST_RIGHTS};
	struct snest_walk_range range = {
		.size = sizeof(range),
		.first = first,
		.last = last,
		.access = view->request.access & SNEST_PRIVILEGED,
	};
	bool nothing = false;
	int ret = 0;

	if (view->context) {
		const struct snest_context *context = view->context;

		l.rights_mask = context->rights;
		if (context->flags & SNEST_CONTEXT_PRIVILEGED)
			range.access = SNEST_PRIVILEGED;
		if (context->flags & SNEST_CONTEXT_UNPRIVILEGED)
			range.access = 0;
		if (context->ia_bits < 64 && last >> context->ia_bits) {
			range.last = ((uint64_t)1 << context->ia_bits) - 1;
			nothing = first > range.last;
		}
	}
	if (view->json) {
		sn_json_open(view->json, "range", '{');
		sn_json_hex(view->json, "first", first);
		sn_json_hex(view->json, "last", last);
		sn_json_open(view->json, "runs", '[');
	} else {
		printf("%s%-18s %-18s %9s  %-15s %s %8s  %s%s\n",
		       sn_tool_colour(view->tool, SN_COLOUR_HEAD), "FIRST", "LAST", "SIZE", "GPA",
		       "RWX", "PAGE", "IMAGE", sn_tool_colour(view->tool, SN_COLOUR_NONE));
	}
	if (!nothing)
		ret = enumerate(&l, &range, budget);
	show_total(&l, ret == 0, range.first);
	if (view->json)
		sn_json_close(view->json, '}');
	if (ret == -EAGAIN || ret == -ENOSPC) {
		sn_tool_error(view->tool,
		              "stopped after %" PRIu64 " entries (--budget); the list is not "
		              "complete.\nGo on with --range 0x%" PRIx64 "-0x%" PRIx64
		              ", or give a larger --budget.",
		              l.entries, range.first, last);
		return SN_EXIT_INCOMPLETE;
	}
	if (ret)
		return sn_tool_error(view->tool, "listing failed: %s", strerror(-ret));
	return SN_EXIT_OK;
}
