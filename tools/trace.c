/* SPDX-License-Identifier: MIT */
/*
 * Reading traces (tools/trace.h): lines from a file, plain or gzip, and what
 * they say. Fields are separated by exactly one space; numbers are lower-case
 * hexadecimal unless the format says decimal.
 */
#include "tools/trace.h"
#include <errno.h>
#include <inttypes.h>
#include <snest/types.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

struct sn_trace {
	gzFile file;
	char *name;
	struct sn_trace_iommu iommu;
	uint64_t line; /* number of the line in `text` */
	bool past_ram; /* an event was seen behind which no M line may come */
	int failed;    /* -errno, 0: not yet */
	char error[256];
	/* What was read and not yet returned: buffer[at..filled). */
	char buffer[1 << 16];
	size_t at, filled;
	char text[SN_TRACE_LINE_MAX + 1];
	const char *cursor; /* what is left of `text` to parse */
	uint64_t words[SN_TRACE_WORDS_MAX];
	uint8_t bytes[2][SN_TRACE_COMMAND_MAX];
};

__attribute__((format(printf, 3, 4))) static int fail(struct sn_trace *t, int error,
                                                      const char *format, ...)
{
	va_list args;
	int n = t->line ? snprintf(t->error, sizeof(t->error), "%.100s:%" PRIu64 ": ", t->name,
	                           t->line)
	                : snprintf(t->error, sizeof(t->error), "%.100s: ", t->name);

	va_start(args, format);
	vsnprintf(t->error + n, sizeof(t->error) - (size_t)n, format, args);
	va_end(args);
	t->failed = error;
	return error;
}

/* ---- Lines ----------------------------------------------------------------- */

/* Reads on. 1, 0 at the end of the file, or a negative errno. */
static int fill(struct sn_trace *t)
{
	int n, error;
	const char *text;

	errno = 0;
	n = gzread(t->file, t->buffer, sizeof(t->buffer));
	text = gzerror(t->file, &error);
	if (n < 0 || (error != Z_OK && error != Z_STREAM_END)) {
		if (error == Z_ERRNO)
			text = strerror(errno);
		else if (error == Z_BUF_ERROR)
			text = "the compressed file is cut off";
		else if (error == Z_DATA_ERROR)
			text = "the compressed file is damaged";
		return fail(t, -EIO, "%s", text);
	}
	t->at = 0;
	t->filled = (size_t)n;
	return n > 0;
}

/* The next line without its newline in t->text. 1, 0 at the end, or a negative errno. */
static int next_line(struct sn_trace *t)
{
	size_t length = 0;
	bool more = true, cut = false;

	t->line++;
	while (more) {
		const char *from, *newline;
		size_t n, room;

		if (t->at == t->filled) {
			int ret = fill(t);

			if (ret < 0)
				return ret;
			if (ret == 0 && length == 0)
				return 0;
			if (ret == 0)
				return fail(t, -EINVAL, "the last line has no end");
		}
		from = t->buffer + t->at;
		newline = memchr(from, '\n', t->filled - t->at);
		n = newline ? (size_t)(newline - from) : t->filled - t->at;
		more = !newline;
		t->at += n + (newline != NULL);
		room = SN_TRACE_LINE_MAX - length;
		cut |= n > room;
		if (n > room)
			n = room;
		memcpy(t->text + length, from, n);
		length += n;
		if (cut && t->text[0] != '#')
			return fail(t, -EINVAL, "the line is longer than %d characters",
			            SN_TRACE_LINE_MAX);
	}
	t->text[length] = '\0';
	if (memchr(t->text, '\0', length) && t->text[0] != '#')
		return fail(t, -EINVAL, "the line holds a character 0");
	/* The guest writes comments; they may end up on somebody's terminal. */
	for (size_t i = 0; i < length && t->text[0] == '#'; i++) {
		if (t->text[i] < 0x20 || t->text[i] > 0x7e)
			t->text[i] = '?';
	}
	t->cursor = t->text;
	return 1;
}

/* ---- Fields ----------------------------------------------------------------- */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Goes behind the space that separates fields. Also true at the end of the line. */
static bool field_end(struct sn_trace *t)
{
	if (*t->cursor == ' ' && t->cursor[1]) {
		t->cursor++;
		return true;
	}
	return *t->cursor == '\0';
}

static bool hex(struct sn_trace *t, uint64_t *value)
{
	const char *start = t->cursor;
	uint64_t v = 0;

	for (; hex_digit(*t->cursor) >= 0; t->cursor++)
		v = v << 4 | (uint64_t)hex_digit(*t->cursor);
	*value = v;
	return t->cursor > start && t->cursor - start <= 16 && field_end(t);
}

static bool decimal(struct sn_trace *t, uint64_t max, uint64_t *value)
{
	const char *start = t->cursor;
	uint64_t v = 0;

	for (; *t->cursor >= '0' && *t->cursor <= '9'; t->cursor++) {
		v = v * 10 + (uint64_t)(*t->cursor - '0');
		if (v > max)
			return false;
	}
	*value = v;
	return t->cursor > start && field_end(t);
}

/* The next field is `word`. */
static bool word(struct sn_trace *t, const char *text)
{
	const char *start = t->cursor;
	size_t n = strlen(text);

	if (strncmp(start, text, n))
		return false;
	t->cursor += n;
	if (field_end(t))
		return true;
	t->cursor = start;
	return false;
}

/* A string of bytes: pairs of digits. */
static bool bytes(struct sn_trace *t, uint8_t *out, unsigned *length)
{
	unsigned n = 0;

	while (hex_digit(t->cursor[0]) >= 0 && hex_digit(t->cursor[1]) >= 0) {
		if (n == SN_TRACE_COMMAND_MAX)
			return false;
		out[n++] = (uint8_t)(hex_digit(t->cursor[0]) << 4 | hex_digit(t->cursor[1]));
		t->cursor += 2;
	}
	*length = n;
	return n && field_end(t);
}

/* A number of bytes (decimal) and a value that fits in them. */
static bool sized(struct sn_trace *t, unsigned *size, uint64_t *value)
{
	uint64_t n;

	if (!decimal(t, 8, &n) || (n != 1 && n != 2 && n != 4 && n != 8) || !hex(t, value))
		return false;
	*size = (unsigned)n;
	return n == 8 || *value >> 8 * n == 0;
}

/* ---- Kinds of lines ---------------------------------------------------------- */

static int parse_words(struct sn_trace *t, struct sn_trace_event *event)
{
	unsigned count = 0;

	if (!hex(t, &event->words.gpa))
		return fail(t, -EINVAL, "W: the address is not a hexadecimal number");
	if (event->words.gpa % 8)
		return fail(t, -EINVAL, "W: the address is not a multiple of 8");
	while (*t->cursor) {
		if (count == (4096 - event->words.gpa % 4096) / 8)
			return fail(t, -EINVAL, "W: the words cross a boundary of 4 KiB");
		if (!hex(t, &t->words[count++]))
			return fail(t, -EINVAL, "W: word %u is not a hexadecimal number", count);
	}
	if (!count)
		return fail(t, -EINVAL, "W: no words");
	event->words.word = t->words;
	event->words.count = count;
	return 1;
}

static int parse_command(struct sn_trace *t, struct sn_trace_event *event)
{
	bool virtio = t->iommu.kind == SN_TRACE_VIRTIO;
	uint64_t status;

	if (!bytes(t, t->bytes[0], &event->command.length))
		return fail(t, -EINVAL, "C: the command is not a string of bytes");
	event->command.bytes = t->bytes[0];
	event->command.properties = t->bytes[1];
	event->command.properties_length = 0;
	event->command.status = 0;
	if (!virtio)
		return event->command.length == 16 || event->command.length == 32
		               ? 1
		               : fail(t, -EINVAL, "C: the command has not 16 or 32 bytes");
	if (!decimal(t, 255, &status))
		return fail(t, -EINVAL, "C: the status is not a decimal number of one byte");
	event->command.status = (unsigned)status;
	if (*t->cursor && !bytes(t, t->bytes[1], &event->command.properties_length))
		return fail(t, -EINVAL, "C: the properties are not a string of bytes");
	return 1;
}

static int parse_answer(struct sn_trace *t, struct sn_trace_event *event)
{
	uint64_t rid, pasid = SNEST_NO_PASID, code;

	if (!hex(t, &rid) || rid > UINT32_MAX)
		return fail(t, -EINVAL, "X: the requester is not a hexadecimal number of 32 bits");
	if (!word(t, "-") && (!hex(t, &pasid) || pasid > 0xfffff))
		return fail(t, -EINVAL, "X: the PASID is neither - nor a number of 20 bits");
	if (!hex(t, &event->answer.iova))
		return fail(t, -EINVAL, "X: the IOVA is not a hexadecimal number");
	event->answer.rid = (uint32_t)rid;
	event->answer.pasid = (uint32_t)pasid;
	event->answer.write = word(t, "w");
	if (!event->answer.write && !word(t, "r"))
		return fail(t, -EINVAL, "X: the access is neither r nor w");
	event->answer.ok = word(t, "ok");
	event->answer.gpa = event->answer.mask = 0;
	event->answer.code = 0;
	event->answer.rights = 0;
	if (event->answer.ok) {
		if (!hex(t, &event->answer.gpa) || !hex(t, &event->answer.mask))
			return fail(t, -EINVAL, "X: address and mask are not hexadecimal numbers");
		if (event->answer.mask & (event->answer.mask + 1))
			return fail(t, -EINVAL, "X: the mask is not a size minus 1");
		event->answer.rights = word(t, "rw")  ? SNEST_READ | SNEST_WRITE
		                       : word(t, "r") ? SNEST_READ
		                       : word(t, "w") ? SNEST_WRITE
		                                      : 0;
		if (!event->answer.rights)
			return fail(t, -EINVAL, "X: the permission is none of r, w, rw");
	} else {
		if (!word(t, "fault"))
			return fail(t, -EINVAL, "X: the outcome is neither ok nor fault");
		if (!decimal(t, UINT32_MAX, &code))
			return fail(t, -EINVAL, "X: the code is not a decimal number");
		event->answer.code = (uint32_t)code;
	}
	event->answer.cached = word(t, "cached");
	return 1;
}

/* Fields of one line behind its letter. 1 or a negative errno. */
static int parse_fields(struct sn_trace *t, struct sn_trace_event *event)
{
	switch (event->kind) {
	case SN_TRACE_RAM:
		if (t->past_ram)
			return fail(t, -EINVAL, "M: a region behind the first event");
		if (!hex(t, &event->ram.gpa) || !hex(t, &event->ram.size))
			return fail(t, -EINVAL, "M: address and size are not hexadecimal numbers");
		if (!event->ram.size || event->ram.gpa + (event->ram.size - 1) < event->ram.gpa)
			return fail(t, -EINVAL, "M: the region is empty or wraps");
		return 1;
	case SN_TRACE_WORDS:
		return parse_words(t, event);
	case SN_TRACE_REGISTER:
		if (!hex(t, &event->reg.offset) || !sized(t, &event->reg.bytes, &event->reg.value))
			return fail(t, -EINVAL, "R: not an offset, a size, a value of that size");
		if (event->reg.bytes < 4 && t->iommu.kind != SN_TRACE_VIRTIO)
			return fail(t, -EINVAL, "R: the size is neither 4 nor 8");
		return 1;
	case SN_TRACE_COMMAND:
		return parse_command(t, event);
	case SN_TRACE_STORE:
		if (!hex(t, &event->store.gpa) ||
		    !sized(t, &event->store.bytes, &event->store.value))
			return fail(t, -EINVAL, "D: not an address, a size, a value of that size");
		if (event->store.bytes < 4)
			return fail(t, -EINVAL, "D: the size is neither 4 nor 8");
		if (event->store.gpa > UINT64_MAX - (event->store.bytes - 1))
			return fail(t, -EINVAL, "D: the address wraps");
		return 1;
	case SN_TRACE_ANSWER:
		return parse_answer(t, event);
	default:
		return fail(t, -EINVAL, "no such kind of line");
	}
}

int sn_trace_next(struct sn_trace *t, struct sn_trace_event *event)
{
	static const char letters[] = {
		[SN_TRACE_RAM] = 'M',     [SN_TRACE_WORDS] = 'W', [SN_TRACE_REGISTER] = 'R',
		[SN_TRACE_COMMAND] = 'C', [SN_TRACE_STORE] = 'D', [SN_TRACE_ANSWER] = 'X',
	};
	unsigned kind = SN_TRACE_RAM;
	int ret;

	if (t->failed)
		return t->failed;
	ret = next_line(t);
	if (ret <= 0)
		return ret;
	event->line = t->line;
	if (t->text[0] == '#') {
		event->kind = SN_TRACE_COMMENT;
		event->comment = t->text + 1 + (t->text[1] == ' ');
		return 1;
	}
	while (kind < sizeof(letters) && letters[kind] != t->text[0])
		kind++;
	if (kind == sizeof(letters) || t->text[1] != ' ')
		return fail(t, -EINVAL, "the line begins with none of M W R C D X #");
	event->kind = (enum sn_trace_kind)kind;
	t->cursor = t->text + 2;
	ret = parse_fields(t, event);
	if (ret < 0)
		return ret;
	if (*t->cursor)
		return fail(t, -EINVAL, "%c: '%.20s' at the end of the line is too much",
		            t->text[0], t->cursor);
	if (kind != SN_TRACE_RAM)
		t->past_ram = true;
	return 1;
}

/* ---- The first two lines -------------------------------------------------------- */

static const char *const kind_names[] = {
	[SN_TRACE_VTD] = "vtd",     [SN_TRACE_AMD] = "amdvi",     [SN_TRACE_SMMU] = "smmuv3",
	[SN_TRACE_RISCV] = "riscv", [SN_TRACE_VIRTIO] = "virtio",
};

#define KINDS (sizeof(kind_names) / sizeof(kind_names[0]))

static const struct {
	enum sn_trace_iommu_kind kind;
	const char *name;
	size_t offset; /* of a uint64_t */
} keys[] = {
	{SN_TRACE_VTD, "ver", offsetof(struct sn_trace_iommu, vtd.ver)},
	{SN_TRACE_VTD, "cap", offsetof(struct sn_trace_iommu, vtd.cap)},
	{SN_TRACE_VTD, "ecap", offsetof(struct sn_trace_iommu, vtd.ecap)},
	{SN_TRACE_AMD, "efr", offsetof(struct sn_trace_iommu, amd.efr)},
	{SN_TRACE_AMD, "cap", offsetof(struct sn_trace_iommu, amd.cap)},
	{SN_TRACE_SMMU, "idr0", offsetof(struct sn_trace_iommu, smmu.idr[0])},
	{SN_TRACE_SMMU, "idr1", offsetof(struct sn_trace_iommu, smmu.idr[1])},
	{SN_TRACE_SMMU, "idr2", offsetof(struct sn_trace_iommu, smmu.idr[2])},
	{SN_TRACE_SMMU, "idr3", offsetof(struct sn_trace_iommu, smmu.idr[3])},
	{SN_TRACE_SMMU, "idr4", offsetof(struct sn_trace_iommu, smmu.idr[4])},
	{SN_TRACE_SMMU, "idr5", offsetof(struct sn_trace_iommu, smmu.idr[5])},
	{SN_TRACE_SMMU, "aidr", offsetof(struct sn_trace_iommu, smmu.aidr)},
	{SN_TRACE_RISCV, "caps", offsetof(struct sn_trace_iommu, riscv.caps)},
	{SN_TRACE_RISCV, "fctl", offsetof(struct sn_trace_iommu, riscv.fctl)},
	{SN_TRACE_RISCV, "dc_len", offsetof(struct sn_trace_iommu, riscv.dc_len)},
	{SN_TRACE_VIRTIO, "features", offsetof(struct sn_trace_iommu, virtio.features)},
	{SN_TRACE_VIRTIO, "page_size_mask", offsetof(struct sn_trace_iommu, virtio.page_size_mask)},
	{SN_TRACE_VIRTIO, "input_start", offsetof(struct sn_trace_iommu, virtio.input_start)},
	{SN_TRACE_VIRTIO, "input_end", offsetof(struct sn_trace_iommu, virtio.input_end)},
	{SN_TRACE_VIRTIO, "domain_start", offsetof(struct sn_trace_iommu, virtio.domain_start)},
	{SN_TRACE_VIRTIO, "domain_end", offsetof(struct sn_trace_iommu, virtio.domain_end)},
	{SN_TRACE_VIRTIO, "probe_size", offsetof(struct sn_trace_iommu, virtio.probe_size)},
	{SN_TRACE_VIRTIO, "bypass", offsetof(struct sn_trace_iommu, virtio.bypass)},
};

#define KEYS (sizeof(keys) / sizeof(keys[0]))
_Static_assert(KEYS <= 32, "one bit of `seen` for each key");

/* One "key=value". 1 or a negative errno. */
static int parse_key(struct sn_trace *t, uint32_t *seen)
{
	size_t n = strcspn(t->cursor, "= "), i = 0;
	uint64_t value;
	bool good;

	while (i < KEYS && (keys[i].kind != t->iommu.kind || strlen(keys[i].name) != n ||
	                    strncmp(keys[i].name, t->cursor, n)))
		i++;
	if (i == KEYS)
		return fail(t, -EINVAL, "I: %.*s is not a key of this kind", n < 32 ? (int)n : 32,
		            t->cursor);
	if (*seen >> i & 1)
		return fail(t, -EINVAL, "I: %s is there twice", keys[i].name);
	*seen |= 1u << i;
	t->cursor += n;
	if (*t->cursor++ != '=')
		return fail(t, -EINVAL, "I: %s has no value", keys[i].name);
	if (!strcmp(keys[i].name, "dc_len"))
		good = decimal(t, 64, &value) && (value == 32 || value == 64);
	else
		good = hex(t, &value);
	if (!good)
		return fail(t, -EINVAL, "I: the value of %s is wrong", keys[i].name);
	memcpy((char *)&t->iommu + keys[i].offset, &value, sizeof(value));
	return 1;
}

static int parse_iommu(struct sn_trace *t)
{
	uint32_t seen = 0;
	unsigned kind = 1;

	if (!word(t, "I"))
		return fail(t, -EINVAL, "the second line is not the I line");
	while (kind < KINDS && !word(t, kind_names[kind]))
		kind++;
	if (kind == KINDS)
		return fail(t, -EINVAL, "I: unknown kind of IOMMU");
	t->iommu.kind = (enum sn_trace_iommu_kind)kind;
	while (*t->cursor) {
		int ret = parse_key(t, &seen);

		if (ret < 0)
			return ret;
	}
	for (size_t i = 0; i < KEYS; i++) {
		if (keys[i].kind == t->iommu.kind && !(seen >> i & 1))
			return fail(t, -EINVAL, "I: %s is missing", keys[i].name);
	}
	return 0;
}

int sn_trace_open(const char *file, struct sn_trace **trace)
{
	struct sn_trace *t = calloc(1, sizeof(*t));
	int ret;

	*trace = NULL;
	if (!t)
		return -ENOMEM;
	t->name = strdup(file);
	if (!t->name) {
		free(t);
		return -ENOMEM;
	}
	*trace = t;
	errno = 0;
	t->file = gzopen(file, "rbe");
	if (!t->file)
		return fail(t, errno ? -errno : -ENOMEM, "%s", strerror(errno ? errno : ENOMEM));
	ret = next_line(t);
	if (ret < 0)
		return ret;
	if (ret == 0 || strncmp(t->text, "snest-trace ", 12))
		return fail(t, -EINVAL, "this is not a trace: the first line is not snest-trace 1");
	if (strcmp(t->text, "snest-trace 1"))
		return fail(t, -EINVAL, "version %.20s is not known, only 1", t->text + 12);
	ret = next_line(t);
	if (ret < 0)
		return ret;
	return ret ? parse_iommu(t) : fail(t, -EINVAL, "there is no I line");
}

void sn_trace_close(struct sn_trace *t)
{
	if (!t)
		return;
	if (t->file)
		gzclose_r(t->file);
	free(t->name);
	free(t);
}

const struct sn_trace_iommu *sn_trace_iommu(const struct sn_trace *t)
{
	return &t->iommu;
}

const char *sn_trace_error(const struct sn_trace *t)
{
	return t->error;
}
