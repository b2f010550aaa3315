/* SPDX-License-Identifier: MIT */
/*
 * Recorded guest traces, version 1: an iterator over their events.
 *
 * A trace is text, one event a line, plain or compressed with gzip. Reading is
 * strict: what the format does not allow is an error with file and line, never
 * a guess. Memory is bounded whatever the file holds: one line at a time, of
 * limited length. Nothing is remembered of earlier events but the IOMMU line.
 * One thread at a time.
 */
#ifndef SN_TOOLS_TRACE_H
#define SN_TOOLS_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Words of one W line: it does not cross 4 KiB. */
#define SN_TRACE_WORDS_MAX 512
/* Bytes of a command, and of the properties behind a virtio PROBE request. */
#define SN_TRACE_COMMAND_MAX 1024
/* A comment longer than this is cut; any other line is an error. */
#define SN_TRACE_LINE_MAX 16384

enum sn_trace_iommu_kind {
	SN_TRACE_VTD = 1,
	SN_TRACE_AMD,
	SN_TRACE_SMMU,
	SN_TRACE_RISCV,
	SN_TRACE_VIRTIO,
};

/* The I line: registers as the guest sees them. */
struct sn_trace_iommu {
	enum sn_trace_iommu_kind kind;
	union {
		struct {
			uint64_t ver, cap, ecap;
		} vtd;
		struct {
			uint64_t efr, cap;
		} amd;
		struct {
			uint64_t idr[6], aidr;
		} smmu;
		struct {
			uint64_t caps, fctl, dc_len;
		} riscv;
		struct {
			uint64_t features, page_size_mask, input_start, input_end;
			uint64_t domain_start, domain_end, probe_size, bypass;
		} virtio;
	};
};

enum sn_trace_kind {
	SN_TRACE_COMMENT,  /* # */
	SN_TRACE_RAM,      /* M; all of them come before the kinds below */
	SN_TRACE_WORDS,    /* W: guest memory now holds these words */
	SN_TRACE_REGISTER, /* R: the guest writes a register */
	SN_TRACE_COMMAND,  /* C: the VMM consumed a command */
	SN_TRACE_STORE,    /* D: the VMM wrote guest memory */
	SN_TRACE_ANSWER,   /* X: a DMA was answered so */
};

struct sn_trace_event {
	enum sn_trace_kind kind;
	uint64_t line; /* counts from 1 */
	union {
		const char *comment; /* printable; valid until the next event */
		struct {
			uint64_t gpa, size; /* not empty, does not wrap */
		} ram;
		struct {
			uint64_t gpa;         /* multiple of 8 */
			const uint64_t *word; /* valid until the next event */
			unsigned count;       /* 1 to SN_TRACE_WORDS_MAX, within 4 KiB */
		} words;
		struct {
			uint64_t offset, value;
			unsigned bytes; /* 4 or 8; virtio: also 1 and 2 */
		} reg;
		struct {
			const uint8_t *bytes; /* valid until the next event */
			unsigned length;      /* 16 or 32; virtio: any */
			/* virtio */
			unsigned status;
			const uint8_t *properties;
			unsigned properties_length;
		} command;
		struct {
			uint64_t gpa, value; /* does not wrap */
			unsigned bytes;      /* 4 or 8 */
		} store;
		struct {
			uint32_t rid;
			uint32_t pasid; /* SNEST_NO_PASID: none */
			uint64_t iova;
			bool write;
			bool ok;
			bool cached;
			uint8_t rights; /* ok: SNEST_READ, SNEST_WRITE of the whole walk */
			uint32_t code;  /* fault: as the VMM reports it, 0 if it does not */
			uint64_t gpa;   /* ok: for exactly this iova */
			uint64_t mask;  /* ok: size of the translation minus 1 */
		} answer;
	};
};

struct sn_trace;

/*
 * Opens a trace and reads its first two lines. 0 or a negative errno. *trace is
 * set, and to be closed, also on failure, so that sn_trace_error says why;
 * it is NULL only on -ENOMEM.
 */
int sn_trace_open(const char *file, struct sn_trace **trace);
void sn_trace_close(struct sn_trace *trace);

const struct sn_trace_iommu *sn_trace_iommu(const struct sn_trace *trace);

/*
 * The next event: 1 and *event, 0 at the end, or a negative errno: -EINVAL
 * (not as the format demands), -EIO (unreadable, or a compressed file that is
 * cut off). Fails again once it failed.
 */
int sn_trace_next(struct sn_trace *trace, struct sn_trace_event *event);

/* What went wrong: "file:line: text", "file: text" if it could not be opened. */
const char *sn_trace_error(const struct sn_trace *trace);

#endif
