/* SPDX-License-Identifier: MIT */
/*
 * Applies the events of one trace: guest memory, registers, and what else a
 * guest and its VMM did.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>
#include "tools/replay.h"

#define REG_GCMD 0x18u
#define REG_RTADDR 0x20u
#define REG_IQT 0x88u
#define GCMD_TE (1u << 31)
#define GCMD_SRTP (1u << 30)

/* Lines from one look at the shadow's size, and at the terminal, to the next. */
#define LOOK_EVERY 4096u

uint64_t sn_replay_wrong(const struct sn_replay_counts *c)
{
	return c->wrong + c->commands_wrong + c->mirror_wrong + c->reader_wrong;
}

/* ---- The machine ------------------------------------------------------------ */

/* RAM as the trace has it. */
static int add_memory(struct sn_replay *r)
{
	const struct sn_sparse_region *ram;
	unsigned count = sn_sparse_regions(r->memory, &ram);

	for (unsigned i = 0; i < count; i++) {
		struct snest_region region = {
			.size = sizeof(region),
			.first = ram[i].first,
			.last = ram[i].last,
			.host = sn_replay_host(r, ram[i].first),
			.mapping = ram[i].mapping,
		};
		int ret = snest_memory_add(r->vm, &region);

		if (ret)
			return ret;
	}
	return 0;
}

static int create_front_end(struct sn_replay *r)
{
	const struct sn_trace_iommu *iommu = sn_trace_iommu(r->trace);
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.flags = SNEST_VTD_RAW | SNEST_VTD_SYNC,
		.version = (uint32_t)iommu->vtd.ver,
		.cap = iommu->vtd.cap,
		.ecap = iommu->vtd.ecap,
	};
	const char *why = NULL;
	int ret = snest_vtd_create(r->vm, &config, &r->vtd, &why);

	r->registers = (struct snest_vtd_registers){
		.size = sizeof(r->registers),
		.haw = ((uint32_t)(iommu->vtd.cap >> 16) & 0x3f) + 1,
		.cap = iommu->vtd.cap,
		.ecap = iommu->vtd.ecap,
	};
	if (ret)
		sn_tool_error(r->tool, "%s: this VT-d unit cannot be emulated: %s", r->file,
		              why ? why : strerror(-ret));
	return ret;
}

/* The first event behind the RAM regions: now the machine can be built. */
static int power_on(struct sn_replay *r)
{
	int ret = snest_vm_create(NULL, &r->vm);

	if (!ret && r->options->threads)
		ret = sn_slots_create(r);
	if (!ret)
		ret = add_memory(r);
	if (ret) {
		sn_tool_error(r->tool, "%s: cannot build the guest's memory: %s", r->file,
		              strerror(-ret));
		return ret;
	}
	ret = create_front_end(r);
	if (!ret && r->options->restore)
		ret = sn_replay_restore(r);
	if (!ret && r->options->threads) {
		ret = sn_readers_start(r);
		if (ret)
			sn_tool_error(r->tool, "cannot start %u threads: %s", r->options->threads,
			              strerror(-ret));
	}
	return ret;
}

/* ---- Events ----------------------------------------------------------------- */

static int write_register(struct sn_replay *r, uint64_t offset, unsigned bytes, uint64_t value)
{
	static const struct sn_cover all = {
		.kind = SN_COVER_IOTLB,
		.domain = SN_ANY_DOMAIN,
		.last = UINT64_MAX,
	};
	uint64_t begin;
	int ret;

	if (offset == REG_IQT)
		sn_history_doorbell(r->history);
	else if (offset == REG_GCMD)
		sn_slots_upset(r);
	begin = sn_replay_now();
	ret = snest_vtd_write(r->vtd, offset, bytes, value);
	if (offset == REG_IQT)
		sn_histogram_add(&r->doorbell, sn_replay_now() - begin);
	r->check_due = r->mirrored;
	if (offset == REG_RTADDR && bytes == 8)
		r->rtaddr_written = value;
	else if (offset == REG_RTADDR)
		r->rtaddr_written = (r->rtaddr_written & ~UINT64_C(0xffffffff)) | value;
	else if (offset == REG_RTADDR + 4)
		r->rtaddr_written = (r->rtaddr_written & 0xffffffff) | value << 32;
	if (offset == REG_GCMD) {
		r->enabled = value & GCMD_TE;
		if (value & GCMD_SRTP)
			r->registers.rtaddr = r->rtaddr_written;
		sn_slots_upset(r);
		ret = ret ? ret : sn_history_cover(r->history, r->line, &all);
	}
	return ret;
}

/* The queue was processed at the tail write; this says what was in it. */
static int command(struct sn_replay *r, const struct sn_trace_event *e)
{
	struct sn_cover cover;

	sn_cover_decode(e->command.bytes, e->command.length, &cover);
	if (r->slots)
		sn_slots_command(r, &cover);
	if (r->life)
		sn_life_command(r, &cover);
	return sn_history_cover(r->history, r->line, &cover);
}

static int answer(struct sn_replay *r, const struct sn_trace_event *e)
{
	int ret = r->mirrored ? sn_replay_mirror(r, e->answer.rid) : 0;

	if (ret == -EOPNOTSUPP && r->options->mirror_auto && !sn_mirrors_count(r->mirrors)) {
		r->mirrored = false;
		ret = 0;
	} else if (ret == -EOPNOTSUPP) {
		sn_tool_error(r->tool,
		              "%s:%" PRIu64 ": this guest does not announce what it maps for "
		              "device %02x:%02x.%x, so it cannot be mirrored; replay it without "
		              "--mirror",
		              r->file, r->line, e->answer.rid >> 8, e->answer.rid >> 3 & 31,
		              e->answer.rid & 7);
		return -ECANCELED;
	}
	if (!ret && r->slots)
		ret = sn_slots_known(r, e->answer.rid, e->answer.pasid, e->answer.iova);
	return ret ? ret : sn_replay_check(r, e);
}

static int apply(struct sn_replay *r, const struct sn_trace_event *e)
{
	if (r->check_due && e->kind != SN_TRACE_COMMAND && e->kind != SN_TRACE_STORE) {
		int ret = sn_replay_mirror_check(r);

		r->check_due = false;
		if (ret)
			return ret;
	}
	switch (e->kind) {
	case SN_TRACE_COMMENT:
		return 0;
	case SN_TRACE_RAM:
		return sn_sparse_add(r->memory, e->ram.gpa, e->ram.size);
	case SN_TRACE_WORDS:
		if (r->slots)
			return sn_slots_words(r, e->words.gpa, e->words.word, e->words.count);
		return sn_sparse_words(r->memory, e->words.gpa, e->words.word, e->words.count);
	case SN_TRACE_STORE:
		if (r->slots)
			return sn_slots_store(r, e->store.gpa, e->store.bytes, e->store.value);
		return sn_sparse_store(r->memory, e->store.gpa, e->store.bytes, e->store.value);
	case SN_TRACE_REGISTER:
		return write_register(r, e->reg.offset, e->reg.bytes, e->reg.value);
	case SN_TRACE_COMMAND:
		return command(r, e);
	case SN_TRACE_ANSWER:
		return answer(r, e);
	}
	return -EINVAL;
}

static void look(struct sn_replay *r, bool end)
{
	struct snest_vm_stats stats = {.size = sizeof(stats)};

	if (r->vm && !snest_vm_stats(r->vm, &stats) &&
	    stats.table_bytes > r->counts.table_bytes_max)
		r->counts.table_bytes_max = stats.table_bytes;
	if (r->options->quiet || !isatty(STDERR_FILENO))
		return;
	fprintf(stderr,
	        end ? "\r\033[K"
	            : "\r%s: line %" PRIu64 ", %" PRIu64 " translations, %" PRIu64 " wrong",
	        r->file, r->line, r->counts.checked, sn_replay_wrong(&r->counts));
}

/* What to do with an event: 1 apply it, 2 leave it out, 0 stop. Or -errno after a message. */
static int consider(struct sn_replay *r, const struct sn_trace_event *e)
{
	if (!r->vm && e->kind != SN_TRACE_RAM && e->kind != SN_TRACE_COMMENT) {
		int ret = power_on(r);

		if (ret)
			return ret;
	}
	if (e->line < r->restored)
		return 2;
	if (r->vm && r->options->save && e->line >= r->options->save_line && !r->check_due) {
		int ret = sn_replay_save(r, e->line);

		r->saved_line = ret ? 0 : e->line;
		return ret;
	}
	r->line = e->line;
	r->counts.events[e->kind]++;
	return 1;
}

static int events(struct sn_replay *r)
{
	struct sn_trace_event e;
	int ret;

	while ((ret = sn_trace_next(r->trace, &e)) == 1) {
		int what = consider(r, &e);

		if (what == 2)
			continue;
		if (what != 1)
			return what;
		if (r->life)
			sn_life_event(r, &e);
		ret = apply(r, &e);
		if (ret) {
			if (ret != -ECANCELED)
				sn_tool_error(r->tool,
				              "%s:%" PRIu64 ": cannot apply this event: %s",
				              r->file, e.line, strerror(-ret));
			return ret;
		}
		snest_thread_quiescent();
		if (r->line % LOOK_EVERY == 0)
			look(r, false);
	}
	if (ret < 0)
		sn_tool_error(r->tool, "%s", sn_trace_error(r->trace));
	return ret;
}

/* Before anything is taken apart: what only the whole can tell. */
static int finish(struct sn_replay *r, int ret)
{
	look(r, true);
	sn_readers_stop(r);
	if (!r->vtd)
		return ret;
	if (!ret && r->options->save && !r->saved_line) {
		sn_tool_error(r->tool,
		              "%s: ends at line %" PRIu64 ", in front of --save-at %" PRIu64,
		              r->file, r->line, r->options->save_line);
		ret = -ENOENT;
	}
	if (!ret && r->mirrored && !r->saved_line)
		ret = sn_replay_mirror_finish(r);
	if (!ret && r->life)
		ret = sn_life_finish(r);
	r->vm_stats.size = sizeof(r->vm_stats);
	r->vtd_stats.size = sizeof(r->vtd_stats);
	snest_vm_stats(r->vm, &r->vm_stats);
	snest_vtd_stats(r->vtd, &r->vtd_stats);
	/* A trace may be cut off between a tail write and its commands, so more is no fault. */
	if (!r->restored && r->vtd_stats.descriptors < r->counts.events[SN_TRACE_COMMAND])
		r->counts.commands_wrong =
			r->counts.events[SN_TRACE_COMMAND] - r->vtd_stats.descriptors;
	return ret;
}

static int prepare(struct sn_replay *r)
{
	int ret = sn_sparse_create(NULL, &r->memory);

	if (!ret)
		ret = sn_history_create(&r->history);
	if (!ret)
		ret = sn_mirrors_create(&r->mirrors);
	if (ret)
		sn_tool_error(r->tool, "%s: %s", r->file, strerror(-ret));
	else if (r->options->svg)
		ret = sn_life_create(r);
	return ret;
}

int sn_replay_run(struct sn_replay *r)
{
	uint64_t begin = sn_replay_now();
	int ret = sn_trace_open(r->file, &r->trace);

	r->mirrored = r->options->mirror;

	if (ret) {
		sn_tool_error(r->tool, "%s", r->trace ? sn_trace_error(r->trace) : strerror(-ret));
	} else if (sn_trace_iommu(r->trace)->kind != SN_TRACE_VTD) {
		sn_tool_error(r->tool, "%s: only traces of VT-d guests can be replayed", r->file);
		ret = -EOPNOTSUPP;
	} else {
		ret = prepare(r);
		if (!ret)
			ret = events(r);
		ret = finish(r, ret);
	}
	r->elapsed_ns = sn_replay_now() - begin;
	/* The front end empties the sinks, so they go behind it. */
	if (r->vtd)
		snest_vtd_destroy(r->vtd);
	snest_vm_destroy(r->vm);
	sn_mirrors_destroy(r->mirrors);
	sn_slots_destroy(r->slots);
	sn_life_destroy(r->life);
	sn_sparse_destroy(r->memory);
	sn_history_destroy(r->history);
	sn_trace_close(r->trace);
	return ret;
}
