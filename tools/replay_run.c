/* SPDX-License-Identifier: MIT */
/*
 * Applies the events of one trace: guest memory, registers, and what else a
 * guest and its VMM did.
 */
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "tools/replay.h"

#define REG_GCMD 0x18u
#define REG_RTADDR 0x20u
#define REG_IQT 0x88u
#define GCMD_TE (1u << 31)
#define GCMD_SRTP (1u << 30)

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void sn_histogram_add(struct sn_histogram *h, uint64_t ns)
{
	unsigned lg2 = ns ? 63 - (unsigned)__builtin_clzll(ns) : 0;
	unsigned part = lg2 >= 3 ? (unsigned)(ns >> (lg2 - 3)) & 7 : 0;

	h->count++;
	h->total += ns;
	if (h->max < ns)
		h->max = ns;
	h->bucket[lg2 * 8 + part]++;
}

uint64_t sn_histogram_at(const struct sn_histogram *h, double percent)
{
	uint64_t seen = 0, want = (uint64_t)((double)h->count * percent / 100);

	for (unsigned i = 0; i < sizeof(h->bucket) / sizeof(h->bucket[0]); i++) {
		seen += h->bucket[i];
		if (seen > want)
			return ((uint64_t)1 << i / 8) + (((uint64_t)(i % 8) << i / 8) >> 3);
	}
	return h->max;
}

/* ---- The machine --------------------------------------------------------------- */

/* RAM as the trace has it, each GPA its own host address, so that answers compare. */
static int add_memory(struct sn_replay *r)
{
	const struct sn_sparse_region *ram;
	unsigned count = sn_sparse_regions(r->memory, &ram);

	for (unsigned i = 0; i < count; i++) {
		struct snest_region region = {
			.size = sizeof(region),
			.first = ram[i].first,
			.last = ram[i].last,
			.host = ram[i].first,
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

	if (!ret)
		ret = add_memory(r);
	if (ret) {
		sn_tool_error(r->tool, "%s: cannot build the guest's memory: %s", r->file,
		              strerror(-ret));
		return ret;
	}
	return create_front_end(r);
}

/* ---- Events -------------------------------------------------------------------------- */

static int write_register(struct sn_replay *r, uint64_t offset, unsigned bytes, uint64_t value)
{
	uint64_t begin;
	int ret;

	if (offset == REG_IQT)
		sn_replay_doorbell(r);
	begin = now();
	ret = snest_vtd_write(r->vtd, offset, bytes, value);

	if (offset == REG_IQT) {
		sn_histogram_add(&r->doorbell, now() - begin);
		r->check_due = r->options->mirror;
	}
	if (offset == REG_RTADDR && bytes == 8)
		r->rtaddr_written = value;
	else if (offset == REG_RTADDR)
		r->rtaddr_written = (r->rtaddr_written & ~0xffffffffull) | value;
	else if (offset == REG_RTADDR + 4)
		r->rtaddr_written = (r->rtaddr_written & 0xffffffffull) | value << 32;
	if (offset == REG_GCMD) {
		r->enabled = value & GCMD_TE;
		if (value & GCMD_SRTP)
			r->registers.rtaddr = r->rtaddr_written;
		ret = ret ? ret : sn_replay_invalidated(r);
	}
	return ret;
}

static int apply(struct sn_replay *r, const struct sn_trace_event *e)
{
	if (r->check_due && e->kind != SN_TRACE_COMMAND && e->kind != SN_TRACE_STORE) {
		r->check_due = false;
		sn_replay_mirror_check(r);
	}
	switch (e->kind) {
	case SN_TRACE_COMMENT:
		return 0;
	case SN_TRACE_RAM:
		return sn_sparse_add(r->memory, e->ram.gpa, e->ram.size);
	case SN_TRACE_WORDS:
		return sn_sparse_words(r->memory, e->words.gpa, e->words.word, e->words.count);
	case SN_TRACE_STORE:
		return sn_sparse_store(r->memory, e->store.gpa, e->store.bytes, e->store.value);
	case SN_TRACE_REGISTER:
		return write_register(r, e->reg.offset, e->reg.bytes, e->reg.value);
	case SN_TRACE_COMMAND:
		/* The queue was processed at the tail write; this says what was in it. */
		return sn_replay_command(r, e->command.bytes, e->command.length);
	case SN_TRACE_ANSWER:
		if (r->options->mirror) {
			int ret = sn_replay_mirror(r, e->answer.rid);

			if (ret)
				return ret;
		}
		return sn_replay_check(r, e);
	}
	return -EINVAL;
}

static void progress(struct sn_replay *r, bool end)
{
	if (r->options->quiet || !isatty(STDERR_FILENO))
		return;
	fprintf(stderr, end ? "\r\033[K" : "\r%s: line %llu, %llu translations checked, %llu wrong",
	        r->file, (unsigned long long)r->line, (unsigned long long)r->counts.checked,
	        (unsigned long long)r->counts.wrong);
}

static int events(struct sn_replay *r)
{
	struct sn_trace_event e;
	int ret;

	while ((ret = sn_trace_next(r->trace, &e)) == 1) {
		r->line = e.line;
		r->counts.events[e.kind]++;
		if (!r->vm && e.kind != SN_TRACE_RAM && e.kind != SN_TRACE_COMMENT) {
			ret = power_on(r);
			if (ret)
				return ret;
		}
		ret = apply(r, &e);
		if (ret) {
			sn_tool_error(r->tool, "%s:%llu: cannot apply this event: %s", r->file,
			              (unsigned long long)e.line, strerror(-ret));
			return ret;
		}
		if (r->line % 8192 == 0)
			progress(r, false);
	}
	progress(r, true);
	if (ret < 0)
		sn_tool_error(r->tool, "%s", sn_trace_error(r->trace));
	return ret;
}

static void finish(struct sn_replay *r)
{
	if (r->vtd) {
		r->vm_stats.size = sizeof(r->vm_stats);
		r->vtd_stats.size = sizeof(r->vtd_stats);
		snest_vm_stats(r->vm, &r->vm_stats);
		snest_vtd_stats(r->vtd, &r->vtd_stats);
	}
}

int sn_replay_run(struct sn_replay *r)
{
	uint64_t begin = now();
	int ret = sn_trace_open(r->file, &r->trace);

	if (ret) {
		sn_tool_error(r->tool, "%s", r->trace ? sn_trace_error(r->trace) : strerror(-ret));
		sn_trace_close(r->trace);
		return ret;
	}
	if (sn_trace_iommu(r->trace)->kind != SN_TRACE_VTD) {
		sn_tool_error(r->tool, "%s: only traces of VT-d guests can be replayed", r->file);
		sn_trace_close(r->trace);
		return -EOPNOTSUPP;
	}
	ret = sn_sparse_create(NULL, &r->memory);
	if (!ret)
		ret = sn_history_create(&r->history);
	if (!ret)
		ret = sn_mirrors_create(&r->mirrors);
	if (ret)
		sn_tool_error(r->tool, "%s: %s", r->file, strerror(-ret));
	else
		ret = events(r);
	r->elapsed_ns = now() - begin;
	finish(r);
	/* Unmaps what the sinks hold, so they go last. */
	if (r->vtd)
		snest_vtd_destroy(r->vtd);
	snest_vm_destroy(r->vm);
	sn_sparse_destroy(r->memory);
	sn_history_destroy(r->history);
	sn_trace_close(r->trace);
	return ret;
}
