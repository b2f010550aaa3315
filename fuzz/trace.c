/* SPDX-License-Identifier: MIT */
/*
 * The trace parser: bytes are a file, plain or compressed. Properties: reading
 * ends; lines count up; every event keeps the promises of tools/trace.h; what
 * failed once fails again and says why. What the events say of memory goes to
 * sparse memory with small limits, which holds it or says which limit was met.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "fuzz.h"
#include "tools/sparse.h"
#include "tools/trace.h"

static void check_event(const struct sn_trace_event *e)
{
	switch (e->kind) {
	case SN_TRACE_COMMENT:
		fuzz_check(strlen(e->comment) < SN_TRACE_LINE_MAX, "a long comment");
		break;
	case SN_TRACE_RAM:
		fuzz_check(e->ram.size && e->ram.gpa + (e->ram.size - 1) >= e->ram.gpa, "M wraps");
		break;
	case SN_TRACE_WORDS:
		fuzz_check(!(e->words.gpa & 7) && e->words.count >= 1 &&
		                   (e->words.gpa & 4095) + 8ull * e->words.count <= 4096,
		           "W crosses a page");
		for (unsigned i = 0; i < e->words.count; i++)
			*(volatile const uint64_t *)&e->words.word[i];
		break;
	case SN_TRACE_REGISTER:
		fuzz_check(e->reg.bytes >= 1 && e->reg.bytes <= 8, "R of %u bytes", e->reg.bytes);
		break;
	case SN_TRACE_COMMAND:
		fuzz_check(e->command.length <= SN_TRACE_COMMAND_MAX &&
		                   e->command.properties_length <= SN_TRACE_COMMAND_MAX,
		           "C is too long");
		for (unsigned i = 0; i < e->command.length; i++)
			*(volatile const uint8_t *)&e->command.bytes[i];
		break;
	case SN_TRACE_STORE:
		fuzz_check((e->store.bytes == 4 || e->store.bytes == 8) &&
		                   e->store.gpa + (e->store.bytes - 1) >= e->store.gpa,
		           "D of %u bytes", e->store.bytes);
		break;
	case SN_TRACE_ANSWER:
		break;
	default:
		fuzz_check(0, "kind %d", e->kind);
	}
}

/* Regions are reserved by the kernel, one by one: more of them show no more. */
#define REGIONS 4
/* A visit looks at a bit for each page, of what the guest says that it has. */
#define RAM_VISITED (4ull << 30)

static void check_words(const struct sn_sparse *memory, uint64_t gpa, const uint64_t *word,
                        size_t count)
{
	for (size_t i = 0; i < count; i++)
		fuzz_check(sn_sparse_load(memory, gpa + i * 8) == word[i], "word 0x%llx is lost",
		           (unsigned long long)(gpa + i * 8));
}

static int count_visit(void *opaque, uint64_t gpa, const void *data, size_t bytes)
{
	uint64_t *sum = opaque, word;

	fuzz_check((bytes == 8 || bytes == 4096) && gpa % bytes == 0, "%zu bytes at 0x%llx", bytes,
	           (unsigned long long)gpa);
	memcpy(&word, (const char *)data + bytes - 8, 8);
	*sum += word;
	return 0;
}

static uint64_t ram_of(const struct sn_sparse *memory)
{
	const struct sn_sparse_region *regions;
	uint64_t bytes = 0;

	for (unsigned n = sn_sparse_regions(memory, &regions); n; n--)
		bytes += regions[n - 1].last - regions[n - 1].first + 1;
	return bytes;
}

static void remember(struct sn_sparse *memory, const struct sn_trace_event *e)
{
	const struct sn_sparse_region *regions;
	uint64_t mask = e->store.bytes == 4 ? UINT32_MAX : UINT64_MAX;
	int ret = 0;

	switch (e->kind) {
	case SN_TRACE_RAM:
		if (sn_sparse_regions(memory, &regions) < REGIONS)
			ret = sn_sparse_add(memory, e->ram.gpa, e->ram.size);
		fuzz_check(!ret || ret == -EINVAL || ret == -EEXIST || ret == -ENOMEM,
		           "sn_sparse_add: %d", ret);
		break;
	case SN_TRACE_WORDS:
		ret = sn_sparse_words(memory, e->words.gpa, e->words.word, e->words.count);
		fuzz_check(!ret || ret == -ENOSPC, "sn_sparse_words: %d", ret);
		if (!ret)
			check_words(memory, e->words.gpa, e->words.word, e->words.count);
		break;
	case SN_TRACE_STORE:
		ret = sn_sparse_store(memory, e->store.gpa, e->store.bytes, e->store.value);
		fuzz_check(!ret || ret == -ENOSPC, "sn_sparse_store: %d", ret);
		if (!ret && e->store.gpa % e->store.bytes == 0)
			fuzz_check((sn_sparse_load(memory, e->store.gpa) >> e->store.gpa % 8 * 8 &
			            mask) == (e->store.value & mask),
			           "a store is lost");
		break;
	default:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct sn_sparse_limits limits = {.ram_bytes = 16 * 4096, .outside_words = 64};
	struct sn_sparse *memory;
	uint64_t sum = 0;
	static int file = -1;
	struct sn_trace_event event;
	struct sn_trace *trace;
	uint64_t line = 0;
	char path[64];
	int ret;

	if (file < 0)
		file = memfd_create("trace", 0);
	fuzz_check(file >= 0 && !ftruncate(file, 0) && pwrite(file, data, size, 0) == (ssize_t)size,
	           "no file");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	ret = sn_trace_open(path, &trace);
	if (!trace || sn_sparse_create(&limits, &memory))
		abort();
	if (!ret) {
		fuzz_check(sn_trace_iommu(trace)->kind, "no IOMMU");
		while ((ret = sn_trace_next(trace, &event)) > 0) {
			fuzz_check(event.line > line, "lines do not count up");
			line = event.line;
			check_event(&event);
			remember(memory, &event);
		}
		if (ret < 0)
			fuzz_check(sn_trace_next(trace, &event) < 0, "goes on after an error");
	}
	fuzz_check(ret >= 0 || *sn_trace_error(trace), "no reason given");
	if (ram_of(memory) <= RAM_VISITED)
		sn_sparse_visit(memory, count_visit, &sum);
	sn_sparse_destroy(memory);
	sn_trace_close(trace);
	return 0;
}

/* ---- Making inputs -------------------------------------------------------------- */

static const char *const lines[] = {
	"M 0 10000000\n",
	"M 100000000 40000000\n",
	"W 1000 2001 0\n",
	"R 18 4 40000000\n",
	"R 20 8 1000\n",
	"C 04000000000000000f00000000000010\n",
	"D 2000 4 1\n",
	"X 18 - ffffe000 r ok 2359000 fff rw\n",
	"X ffff 2a 1234 w fault 6 cached\n",
	"# text\n",
};

#define HEADER "snest-trace 1\n"

static const char *const iommus[] = {
	"I vtd ver=10 cap=80d2008c222f0686 ecap=f00f4a\n",
	"I amdvi efr=29d3 cap=190b640f\n",
	"I smmuv3 idr0=1 idr1=2 idr2=3 idr3=4 idr4=5 idr5=6 aidr=7\n",
	"I riscv dc_len=64 fctl=0 caps=5\n",
	("I virtio features=1 page_size_mask=1000 input_start=0 input_end=ffffffffffffffff "
         "domain_start=0 domain_end=20 probe_size=200 bypass=1\n"
         "C 0102030405 0\nC 01 255 aabb\n"),
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static size_t add(uint8_t *data, size_t size, size_t max_size, const char *text)
{
	size_t length = strlen(text);

	if (max_size - size < length)
		return size;
	memcpy(data + size, text, length);
	return size + length;
}

static size_t insert_line(uint8_t *data, size_t size, size_t max_size, struct fuzz_random *random)
{
	struct fuzz_random r = *random;
	const char *text = lines[fuzz_below(&r, COUNT(lines))];
	size_t length = strlen(text), at = size ? fuzz_below(&r, size) : 0;

	if (fuzz_below(&r, 3) || max_size - size < length)
		return LLVMFuzzerMutate(data, size, max_size);
	while (at && data[at - 1] != '\n')
		at--;
	memmove(data + at + length, data + at, size - at);
	memcpy(data + at, text, length);
	return size + length;
}

/* ---- Compressed inputs ----------------------------------------------------------- */

#define TEXT_MAX 16384
#define GZIP 31 /* zlib's number for the format */

static bool is_gzip(const uint8_t *data, size_t size)
{
	return size > 2 && data[0] == 0x1f && data[1] == 0x8b;
}

/* The length of the text, 0 if it is not wholly readable. */
static size_t inflated(const uint8_t *data, size_t size, uint8_t *text)
{
	z_stream z = {.next_in = (uint8_t *)(uintptr_t)data, .avail_in = (uInt)size};
	size_t length = 0;

	if (inflateInit2(&z, GZIP) != Z_OK)
		return 0;
	z.next_out = text;
	z.avail_out = TEXT_MAX;
	if (inflate(&z, Z_FINISH) == Z_STREAM_END)
		length = TEXT_MAX - z.avail_out;
	inflateEnd(&z);
	return length;
}

/* The compressed length, 0 if there is no room. */
static size_t deflated(const uint8_t *text, size_t length, uint8_t *data, size_t max_size)
{
	z_stream z = {.next_in = (uint8_t *)(uintptr_t)text, .avail_in = (uInt)length};
	size_t size = 0;

	if (deflateInit2(&z, 1, Z_DEFLATED, GZIP, 1, Z_DEFAULT_STRATEGY) != Z_OK)
		return 0;
	z.next_out = data;
	z.avail_out = (uInt)max_size;
	if (deflate(&z, Z_FINISH) == Z_STREAM_END)
		size = max_size - z.avail_out;
	deflateEnd(&z);
	return size;
}

/*
 * Lines are inserted whole; bytes are the engine's business. Compressed inputs
 * are changed as text, mostly, and now and then one becomes the other.
 */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	static uint8_t text[TEXT_MAX];
	struct fuzz_random r = {seed};
	uint64_t dice = fuzz_below(&r, 64);
	size_t length;

	if (is_gzip(data, size)) {
		length = dice < 8 ? 0 : inflated(data, size, text);
		if (!length)
			return LLVMFuzzerMutate(data, size, max_size);
		length = insert_line(text, length, TEXT_MAX, &r);
		if (dice == 8 && length <= max_size) {
			memcpy(data, text, length);
			return length;
		}
		length = deflated(text, length, data, max_size);
		return length ? length : size;
	}
	size = insert_line(data, size, max_size, &r);
	if (dice == 8 && size <= TEXT_MAX) {
		memcpy(text, data, size);
		length = deflated(text, size, data, max_size);
		if (length)
			return length;
		memcpy(data, text, size);
	}
	return size;
}

/* The beginning of one and the end of the other, cut between lines. */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,
                                 size_t size2, uint8_t *out, size_t max_out, unsigned seed)
{
	struct fuzz_random r = {seed};
	size_t a = size1 ? fuzz_below(&r, size1) : 0, b = size2 ? fuzz_below(&r, size2) : 0;

	while (a && data1[a - 1] != '\n')
		a--;
	while (b && data2[b - 1] != '\n')
		b--;
	if (a + (size2 - b) > max_out)
		return 0;
	memcpy(out, data1, a);
	memcpy(out + a, data2 + b, size2 - b);
	return a + (size2 - b);
}

size_t fuzz_seed(unsigned n, uint8_t *data, size_t max_size)
{
	size_t size;

	if (n >= 2 * COUNT(iommus))
		return 0;
	size = add(data, 0, max_size, HEADER);
	size = add(data, size, max_size, iommus[n / 2]);
	for (size_t i = 0; i < COUNT(lines); i++)
		size = add(data, size, max_size, lines[i]);
	if (n % 2) {
		static uint8_t text[TEXT_MAX];

		memcpy(text, data, size);
		size = deflated(text, size, data, max_size);
	}
	return size;
}
