/* SPDX-License-Identifier: MIT */
/*
 * What a replay found, for programs. The schema is described in
 * docs/man/snest-replay.1; fields may be added, and keep their meaning.
 */
#include "tools/replay.h"

static void answers(struct sn_json *json, const struct sn_replay_counts *c)
{
	sn_json_open(json, "translations", '{');
	sn_json_number(json, "checked", c->checked);
	sn_json_number(json, "recorder_cached", c->cached);
	sn_json_number(json, "agreed", c->agreed);
	sn_json_number(json, "stale_legal", c->stale);
	sn_json_number(json, "wrong", c->wrong);
	sn_json_number(json, "lookup_ns", c->lookup_ns);
	sn_json_close(json, '}');
}

static void events(struct sn_json *json, const struct sn_replay_counts *c)
{
	sn_json_open(json, "events", '{');
	sn_json_number(json, "comments", c->events[SN_TRACE_COMMENT]);
	sn_json_number(json, "ram_regions", c->events[SN_TRACE_RAM]);
	sn_json_number(json, "table_writes", c->events[SN_TRACE_WORDS]);
	sn_json_number(json, "register_writes", c->events[SN_TRACE_REGISTER]);
	sn_json_number(json, "commands", c->events[SN_TRACE_COMMAND]);
	sn_json_number(json, "vmm_stores", c->events[SN_TRACE_STORE]);
	sn_json_number(json, "translations", c->events[SN_TRACE_ANSWER]);
	sn_json_close(json, '}');
}

static void mirrors(struct sn_json *json, const struct sn_replay_counts *c)
{
	sn_json_open(json, "mirrors", '{');
	sn_json_number(json, "comparisons", c->mirror_checks);
	sn_json_number(json, "comparisons_full", c->mirror_full);
	sn_json_number(json, "pieces", c->mirror_pieces);
	sn_json_number(json, "wrong", c->mirror_wrong);
	sn_json_number(json, "maps", c->mirror_maps);
	sn_json_number(json, "unmaps", c->mirror_unmaps);
	sn_json_number(json, "batches", c->mirror_batches);
	sn_json_number(json, "pages_mapped", c->mirror_pages);
	/* Numbers are whole here; a thousandth is exact enough for a ratio. */
	sn_json_number(json, "pages_per_1000_maps",
	               c->mirror_maps ? c->mirror_pages * 1000 / c->mirror_maps : 0);
	sn_json_close(json, '}');
}

static void readers(struct sn_json *json, const struct sn_replay_counts *c)
{
	sn_json_open(json, "readers", '{');
	sn_json_number(json, "lookups", c->reader_lookups);
	sn_json_number(json, "judged", c->reader_judged);
	sn_json_number(json, "wrong", c->reader_wrong);
	sn_json_close(json, '}');
}

static void counts(struct sn_json *json, const struct sn_replay_counts *c)
{
	events(json, c);
	answers(json, c);
	mirrors(json, c);
	readers(json, c);
	sn_json_number(json, "commands_wrong", c->commands_wrong);
	sn_json_number(json, "shadow_bytes_max", c->table_bytes_max);
	sn_json_number(json, "wrong", sn_replay_wrong(c));
}

static void doorbells(struct sn_json *json, const struct sn_replay *r)
{
	const struct sn_histogram *h = &r->doorbell;

	sn_json_open(json, "doorbells", '{');
	sn_json_number(json, "count", h->count);
	sn_json_number(json, "descriptors", r->vtd_stats.descriptors);
	sn_json_number(json, "total_ns", h->total);
	sn_json_number(json, "p50_ns", sn_histogram_at(h, 50));
	sn_json_number(json, "p90_ns", sn_histogram_at(h, 90));
	sn_json_number(json, "p99_ns", sn_histogram_at(h, 99));
	sn_json_number(json, "p999_ns", sn_histogram_at(h, 99.9));
	sn_json_number(json, "max_ns", h->max);
	sn_json_close(json, '}');
}

static void answer(struct sn_json *json, const char *key, const struct sn_answer *a)
{
	char rights[4];

	sn_json_open(json, key, '{');
	sn_json_bool(json, "ok", a->ok);
	if (a->ok) {
		sn_json_hex(json, "address", a->gpa);
		sn_json_string(json, "rights", sn_rights_text(a->rights, rights));
		if (a->lg2)
			sn_json_number(json, "lg2", a->lg2);
	} else {
		sn_json_number(json, "code", a->code);
	}
	sn_json_close(json, '}');
}

static void request(struct sn_json *json, uint64_t line, const char *judge, uint32_t rid,
                    uint32_t pasid, uint64_t iova)
{
	sn_json_open(json, NULL, '{');
	sn_json_number(json, "line", line);
	sn_json_string(json, "judge", judge);
	sn_json_number(json, "rid", rid);
	if (pasid == SNEST_NO_PASID)
		sn_json_null(json, "pasid");
	else
		sn_json_number(json, "pasid", pasid);
	sn_json_hex(json, "iova", iova);
}

static void wrongs(struct sn_json *json, const struct sn_replay *r)
{
	sn_json_open(json, "first_wrong", '[');
	for (uint64_t i = 0; i < r->counts.wrong && i < SN_WRONG_MAX; i++) {
		const struct sn_wrong *w = &r->wrong[i];

		request(json, w->line, w->judge, w->rid, w->pasid, w->iova);
		sn_json_bool(json, "write", w->write);
		answer(json, "expected", &w->expected);
		answer(json, "got", &w->got);
		sn_json_close(json, '}');
	}
	for (uint64_t i = 0; i < r->counts.mirror_wrong && i < SN_WRONG_MAX; i++) {
		const struct sn_mirror_wrong *w = &r->mirror_wrong[i];

		request(json, w->line, w->judge, w->rid, SNEST_NO_PASID, w->first);
		sn_json_hex(json, "last", w->last);
		answer(json, "expected", &w->tables);
		answer(json, "got", &w->sink);
		sn_json_close(json, '}');
	}
	for (uint64_t i = 0; i < r->counts.reader_wrong && i < SN_WRONG_MAX; i++) {
		const struct sn_reader_wrong *w = &r->reader_wrong[i];

		request(json, w->line, "reader", w->rid, w->pasid, w->iova);
		sn_json_bool(json, "write", w->write);
		answer(json, "got", &w->got);
		sn_json_hex(json, "stamp", w->stamp);
		sn_json_close(json, '}');
	}
	sn_json_close(json, ']');
}

void sn_replay_json(struct sn_json *json, const struct sn_replay *r)
{
	sn_json_open(json, NULL, '{');
	sn_json_string(json, "file", r->file);
	sn_json_bool(json, "complete", r->complete);
	sn_json_bool(json, "mirror", r->mirrored);
	sn_json_number(json, "threads", r->options->threads);
	counts(json, &r->counts);
	doorbells(json, r);
	sn_json_number(json, "elapsed_ns", r->elapsed_ns);
	wrongs(json, r);
	sn_json_close(json, '}');
}

void sn_replay_json_total(struct sn_json *json, const struct sn_replay_counts *total)
{
	sn_json_open(json, "total", '{');
	counts(json, total);
	sn_json_close(json, '}');
}
