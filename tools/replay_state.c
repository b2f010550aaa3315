/* SPDX-License-Identifier: MIT */
/*
 * Stopping a replay in the middle, and going on in another process: what a
 * migrated VMM does. The file holds guest memory, the blob of snest_vtd_save,
 * and the replay's own bookkeeping; the shadow and the mirrors are built anew.
 *
 * The file is for the same version of the command on the same kind of machine:
 * structures are stored as they are, and a length that does not fit, a checksum
 * that is wrong, or another trace's IOMMU is refused.
 *
 *   magic, then sections: u32 kind, u32 0, u64 bytes, data; at last SECTION_END,
 *   whose data is the CRC-32 of everything before it.
 */
#include "tools/replay_state.h"
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static const char magic[16] = "snest-replay 1\n";

enum section {
	SECTION_REPLAY = 1, /* struct saved */
	SECTION_PAGE,       /* u64 gpa, 4096 or 8 bytes */
	SECTION_VTD,        /* blob */
	SECTION_COVERED,    /* array of struct sn_covered */
	SECTION_KNOWN,      /* one struct sn_known */
	SECTION_END,        /* u64 checksum */
};

struct header {
	uint32_t kind, zero;
	uint64_t bytes;
};

struct saved {
	uint64_t ver, cap, ecap; /* of the trace */
	uint64_t line;           /* of the first event that is not applied */
	struct snest_vtd_registers registers;
	uint64_t rtaddr_written;
	uint64_t doorbell_first; /* covers in front of the latest tail write */
	uint32_t enabled, mirrors;
	uint32_t rid[SN_MIRRORS_MAX];
	struct sn_replay_counts counts;
	struct sn_histogram doorbell;
};

/* ---- Writing ---------------------------------------------------------------- */

struct writer {
	FILE *file;
	uLong crc;
	bool failed;
};

static void put(struct writer *w, const void *data, size_t bytes)
{
	const Bytef *at = data;

	w->failed |= fwrite(data, 1, bytes, w->file) != bytes;
	for (size_t left = bytes; left;) {
		uInt n = left > 1 << 20 ? 1 << 20 : (uInt)left;

		w->crc = crc32(w->crc, at, n);
		at += n;
		left -= n;
	}
}

static void section(struct writer *w, enum section kind, const void *data, size_t bytes)
{
	struct header header = {.kind = kind, .bytes = bytes};

	put(w, &header, sizeof(header));
	put(w, data, bytes);
}

static int put_memory(void *opaque, uint64_t gpa, const void *data, size_t bytes)
{
	struct header header = {.kind = SECTION_PAGE, .bytes = sizeof(gpa) + bytes};
	struct writer *w = opaque;

	put(w, &header, sizeof(header));
	put(w, &gpa, sizeof(gpa));
	put(w, data, bytes);
	return 0;
}

static int put_vtd(struct writer *w, struct snest_vtd *vtd)
{
	size_t length = 0;
	void *blob;
	int ret = snest_vtd_save(vtd, NULL, &length);

	if (ret != -ENOSPC)
		return ret ? ret : -EIO;
	blob = malloc(length);
	if (!blob)
		return -ENOMEM;
	ret = snest_vtd_save(vtd, blob, &length);
	if (!ret)
		section(w, SECTION_VTD, blob, length);
	free(blob);
	return ret;
}

static void put_replay(struct writer *w, const struct sn_replay *r, uint64_t line)
{
	struct saved *saved = calloc(1, sizeof(*saved));

	if (!saved) {
		w->failed = true;
		return;
	}
	saved->ver = sn_trace_iommu(r->trace)->vtd.ver;
	saved->cap = sn_trace_iommu(r->trace)->vtd.cap;
	saved->ecap = sn_trace_iommu(r->trace)->vtd.ecap;
	saved->line = line;
	saved->registers = r->registers;
	saved->rtaddr_written = r->rtaddr_written;
	saved->doorbell_first = r->history->doorbell;
	saved->enabled = r->enabled;
	saved->mirrors = sn_mirrors_rids(r->mirrors, saved->rid, SN_MIRRORS_MAX);
	saved->counts = r->counts;
	saved->doorbell = r->doorbell;
	section(w, SECTION_REPLAY, saved, sizeof(*saved));
	free(saved);
}

static int put_all(struct writer *w, struct sn_replay *r, uint64_t line)
{
	const struct sn_history *h = r->history;
	uint64_t crc;
	int ret;

	put(w, magic, sizeof(magic));
	put_replay(w, r, line);
	ret = sn_sparse_visit(r->memory, put_memory, w);
	if (!ret)
		ret = put_vtd(w, r->vtd);
	if (ret)
		return ret;
	section(w, SECTION_COVERED, h->covered, h->count * sizeof(h->covered[0]));
	for (unsigned i = 0; i < SN_HISTORY_BUCKETS; i++) {
		for (const struct sn_known *k = h->bucket[i]; k; k = k->next)
			section(w, SECTION_KNOWN, k, sizeof(*k));
	}
	crc = w->crc;
	section(w, SECTION_END, &crc, sizeof(crc));
	return w->failed ? -EIO : 0;
}

int sn_replay_save(struct sn_replay *r, uint64_t line)
{
	struct writer w = {.file = fopen(r->options->save, "wb"), .crc = crc32(0, NULL, 0)};
	int ret = w.file ? put_all(&w, r, line) : -errno;

	if (w.file && fclose(w.file) && !ret)
		ret = -errno;
	if (ret)
		sn_tool_error(r->tool, "%s: cannot save: %s", r->options->save, strerror(-ret));
	return ret;
}

/* ---- Reading ---------------------------------------------------------------- */

struct reader {
	struct sn_replay *r;
	const char *data;
	size_t bytes;
	struct saved *saved;
};

static int get_page(struct reader *in)
{
	uint64_t gpa, words[SN_TRACE_WORDS_MAX];
	size_t bytes = in->bytes - sizeof(gpa);

	if (in->bytes < sizeof(gpa) || bytes % 8 || bytes > sizeof(words))
		return -EINVAL;
	memcpy(&gpa, in->data, sizeof(gpa));
	memcpy(words, in->data + sizeof(gpa), bytes);
	/* Stored little-endian, as memory holds them; sn_sparse_words takes values. */
	for (size_t i = 0; i < bytes / 8; i++)
		words[i] = le64toh(words[i]);
	return sn_sparse_words(in->r->memory, gpa, words, bytes / 8);
}

static int get_replay(struct reader *in)
{
	const struct sn_trace_iommu *iommu = sn_trace_iommu(in->r->trace);
	struct sn_replay *r = in->r;

	if (in->saved || in->bytes != sizeof(*in->saved))
		return -EINVAL;
	in->saved = malloc(sizeof(*in->saved));
	if (!in->saved)
		return -ENOMEM;
	memcpy(in->saved, in->data, in->bytes);
	if (in->saved->ver != iommu->vtd.ver || in->saved->cap != iommu->vtd.cap ||
	    in->saved->ecap != iommu->vtd.ecap || in->saved->mirrors > SN_MIRRORS_MAX)
		return -ESTALE;
	r->restored = in->saved->line;
	r->registers = in->saved->registers;
	r->rtaddr_written = in->saved->rtaddr_written;
	r->enabled = in->saved->enabled;
	r->counts = in->saved->counts;
	r->doorbell = in->saved->doorbell;
	return 0;
}

static int get_covered(struct reader *in)
{
	struct sn_history *h = in->r->history;

	if (h->covered || in->bytes % sizeof(h->covered[0]))
		return -EINVAL;
	h->size = in->bytes / sizeof(h->covered[0]);
	h->covered = malloc(in->bytes + 1);
	if (!h->covered)
		return -ENOMEM;
	memcpy(h->covered, in->data, in->bytes);
	h->count = h->size;
	return 0;
}

static int get_known(struct reader *in)
{
	struct sn_known saved, *k;

	if (in->bytes != sizeof(saved))
		return -EINVAL;
	memcpy(&saved, in->data, sizeof(saved));
	if (saved.count > SN_REMEMBERED)
		return -EINVAL;
	k = sn_history_known(in->r->history, saved.rid, saved.pasid, saved.page, saved.write);
	if (!k)
		return -ENOMEM;
	saved.next = k->next;
	*k = saved;
	return 0;
}

static int get(struct reader *in, uint32_t kind)
{
	switch (kind) {
	case SECTION_REPLAY:
		return get_replay(in);
	case SECTION_PAGE:
		return get_page(in);
	case SECTION_VTD:
		return snest_vtd_restore(in->r->vtd, in->data, in->bytes);
	case SECTION_COVERED:
		return get_covered(in);
	case SECTION_KNOWN:
		return get_known(in);
	}
	return -EINVAL;
}

/* The whole file, whose checksum is right; NULL with *error. */
static char *load(const char *name, size_t *bytes, int *error)
{
	FILE *file = fopen(name, "rb");
	char *data = NULL;
	long length = -1;

	*error = file ? 0 : -errno;
	if (file && !fseek(file, 0, SEEK_END))
		length = ftell(file);
	if (length >= 0)
		data = malloc((size_t)length + 1);
	if (data &&
	    (fseek(file, 0, SEEK_SET) || fread(data, 1, (size_t)length, file) != (size_t)length)) {
		free(data);
		data = NULL;
	}
	if (file) {
		*error = data ? 0 : -EIO;
		fclose(file);
	}
	*bytes = data ? (size_t)length : 0;
	return data;
}

static bool intact(const char *data, size_t bytes)
{
	const size_t tail = sizeof(struct header) + sizeof(uint64_t);
	struct header header;
	uint64_t crc;

	if (bytes < sizeof(magic) + tail || memcmp(data, magic, sizeof(magic)))
		return false;
	memcpy(&header, data + bytes - tail, sizeof(header));
	memcpy(&crc, data + bytes - sizeof(crc), sizeof(crc));
	return header.kind == SECTION_END && header.bytes == sizeof(crc) &&
	       crc32_z(crc32_z(0, NULL, 0), (const Bytef *)data, bytes - tail) == crc;
}

static int get_all(struct reader *in, const char *data, size_t bytes)
{
	size_t at = sizeof(magic);

	if (!intact(data, bytes))
		return -EINVAL;
	for (;;) {
		struct header header;
		int ret;

		if (bytes - at < sizeof(header))
			return -EINVAL;
		memcpy(&header, data + at, sizeof(header));
		at += sizeof(header);
		if (header.bytes > bytes - at)
			return -EINVAL;
		if (header.kind == SECTION_END)
			return in->saved ? 0 : -EINVAL;
		in->data = data + at;
		in->bytes = header.bytes;
		ret = get(in, header.kind);
		if (ret)
			return ret;
		at += header.bytes;
	}
}

int sn_replay_restore(struct sn_replay *r)
{
	struct reader in = {.r = r};
	size_t bytes;
	int ret;
	char *data = load(r->options->restore, &bytes, &ret);

	if (data)
		ret = get_all(&in, data, bytes);
	if (!ret && in.saved) {
		r->history->doorbell = in.saved->doorbell_first < r->history->count
		                               ? in.saved->doorbell_first
		                               : r->history->count;
		for (uint32_t i = 0; r->mirrored && i < in.saved->mirrors && !ret; i++)
			ret = sn_replay_mirror(r, in.saved->rid[i]);
	}
	if (ret)
		sn_tool_error(r->tool, "%s: cannot restore: %s", r->options->restore,
		              ret == -EINVAL   ? "not a file that --save-at wrote, or damaged"
		              : ret == -ESTALE ? "saved from a replay of another trace"
		                               : strerror(-ret));
	free(in.saved);
	free(data);
	return ret;
}
