/* SPDX-License-Identifier: MIT */
/*
 * The trace parser: bytes are a file, plain or compressed. Properties: reading
 * ends; lines count up; every event keeps the promises of tools/trace.h; what
 * failed once fails again and says why.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
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
	if (!trace)
		return 0;
	if (!ret) {
		fuzz_check(sn_trace_iommu(trace)->kind, "no IOMMU");
		while ((ret = sn_trace_next(trace, &event)) > 0) {
			fuzz_check(event.line > line, "lines do not count up");
			line = event.line;
			check_event(&event);
		}
		if (ret < 0)
			fuzz_check(sn_trace_next(trace, &event) < 0, "goes on after an error");
	}
	fuzz_check(ret >= 0 || *sn_trace_error(trace), "no reason given");
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

/* Lines are copied, dropped and inserted whole; bytes are the engine's business. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	struct fuzz_random r = {seed};
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

	if (n >= COUNT(iommus))
		return 0;
	size = add(data, 0, max_size, HEADER);
	size = add(data, size, max_size, iommus[n]);
	for (size_t i = 0; i < COUNT(lines); i++)
		size = add(data, size, max_size, lines[i]);
	return size;
}
