/* SPDX-License-Identifier: MIT */
/*
 * `snest walk`, in this process: bytes become its arguments and the memory
 * image that they name.
 *
 * Input: one argument a line, an empty line, then the image: its length in 3
 * bytes, and words as records (records.h). "RAM" in an argument is the image's
 * name. Properties: a status that is documented; something printed, and without
 * control characters; with --json and an answer, brackets and quotes that match;
 * nothing leaks, which the sanitizer says.
 */
#include <getopt.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/reclaim.h"
#include "records.h"
#include "tools/tool.h"

#define ARGS_MAX 32
#define OUTPUT_MAX (1u << 23)
/* A walk of n stages of 5 levels is 6^n lines. */
#define STAGES_MAX 4
/* Behind all others, so that no input lists without a limit. */
#define BUDGET "--budget=2000"

static int file = -1;

/* ---- What it prints ------------------------------------------------------------- */

static char output[OUTPUT_MAX];
static size_t printed; /* to stdout */
static size_t said;    /* to stderr */

static ssize_t take(void *cookie, const char *text, size_t length)
{
	fuzz_check(printed + length <= sizeof(output), "endless output");
	if (cookie == &printed)
		memcpy(output + printed, text, length);
	*(size_t *)cookie += length;
	return (ssize_t)length;
}

static FILE *stream(size_t *count)
{
	FILE *f = fopencookie(count, "w", (cookie_io_functions_t){.write = take});

	if (!f)
		abort();
	return f;
}

static void check_json(void)
{
	unsigned depth = 0;
	bool quoted = false;

	fuzz_check(printed && output[0] == '{', "no object");
	for (size_t i = 0; i < printed; i++) {
		char c = output[i];

		if (quoted && c == '\\')
			i++;
		else if (c == '"')
			quoted = !quoted;
		else if (!quoted && (c == '{' || c == '['))
			depth++;
		else if (!quoted && (c == '}' || c == ']'))
			depth--;
	}
	fuzz_check(!depth && !quoted, "depth %u at the end", depth);
}

/* ---- One input ---------------------------------------------------------------- */

/* The file, mapped: no call of the kernel for each word. */
static uint8_t *mapped;
static size_t image_length;

static void make_image(const uint8_t *data, size_t size)
{
	size_t length = size < 3 ? 0x10000 : (size_t)fuzz_get(data, 3);

	if (!mapped) {
		file = memfd_create("ram", 0);
		mapped = mmap(NULL, 1 << 24, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
		fuzz_check(file >= 0 && mapped != MAP_FAILED, "no file");
	}
	if (length != image_length)
		fuzz_check(!ftruncate(file, (off_t)length), "no file");
	image_length = length;
	for (size_t at = 3; at + RECORD_BYTES <= size && length >= 8; at += RECORD_BYTES)
		memcpy(mapped + fuzz_get(data + at, 2) * 8 % (length & ~(size_t)7), data + at + 2,
		       8);
}

static void clear_image(const uint8_t *data, size_t size)
{
	for (size_t at = 3; at + RECORD_BYTES <= size && image_length >= 8; at += RECORD_BYTES)
		memset(mapped + fuzz_get(data + at, 2) * 8 % (image_length & ~(size_t)7), 0, 8);
}

/* Copies one argument, with the image's name in it. */
static bool add_argument(char *to, size_t room, const uint8_t *line, size_t length)
{
	char path[32];
	size_t used = 0;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	for (size_t i = 0; i < length; i++) {
		bool name = length - i >= 3 && !memcmp(line + i, "RAM", 3);
		size_t n = name ? strlen(path) : 1;

		/* No other file: a device might be one that waits. */
		if (!line[i] || line[i] == '/' || used + n + 1 > room)
			return false;
		memcpy(to + used, name ? path : (const char *)line + i, n);
		used += n;
		i += name ? 2 : 0;
	}
	to[used] = '\0';
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char text[ARGS_MAX][256];
	static FILE *out, *err;
	struct sn_tool tool = {.program = "snest", .command = "walk"};
	FILE *real_out = stdout, *real_err = stderr;
	char *argv[ARGS_MAX + 3] = {(char *)(uintptr_t) "walk"};
	const uint8_t *end = data + size, *line = data;
	bool json = false, range = false;
	int argc = 1, stages = 0, status;

	if (!out) {
		out = stream(&printed);
		err = stream(&said);
		make_image(NULL, 0);
		/* Each input makes a VM: it has no thread of its own. */
		sn_reclaim_threadless = true;
	}
	while (line < end && *line != '\n') {
		const uint8_t *stop = memchr(line, '\n', (size_t)(end - line));
		size_t length = (size_t)((stop ? stop : end) - line);

		if (argc > ARGS_MAX || !add_argument(text[argc - 1], sizeof(text[0]), line, length))
			return 0;
		argv[argc] = text[argc - 1];
		range |= !strncmp(argv[argc], "--r", 3);
		stages += !strncmp(argv[argc], "--s", 3);
		json |= !strcmp(argv[argc], "--json");
		argc++;
		line += length + (stop != NULL);
	}
	line += line < end;
	if (stages > STAGES_MAX)
		return 0;
	if (range) {
		/* Also in front of a "--", behind which there are no options. */
		memmove(argv + 2, argv + 1, (size_t)(argc - 1) * sizeof(argv[0]));
		argv[1] = (char *)(uintptr_t)BUDGET;
		argc++;
		for (int i = 2; i < argc; i++) {
			/* An abbreviation of it, too. */
			if (!strncmp(argv[i], "--b", 3))
				return 0;
		}
	}
	make_image(line, (size_t)(end - line));
	printed = said = 0;
	optind = 0;
	stdout = out;
	stderr = err;
	status = sn_cmd_walk(&tool, argc, argv);
	fflush(out);
	fflush(err);
	stdout = real_out;
	stderr = real_err;
	clear_image(line, (size_t)(end - line));
	fuzz_check(status >= SN_EXIT_OK && status <= SN_EXIT_INCOMPLETE, "status %d", status);
	fuzz_check(status != SN_EXIT_USAGE || said, "refused without a word");
	fuzz_check(status == SN_EXIT_USAGE || printed, "an answer without a word");
	for (size_t i = 0; i < printed && !tool.colour; i++)
		fuzz_check(output[i] == '\n' || (uint8_t)output[i] >= 0x20, "character 0x%x",
		           (uint8_t)output[i]);
	if (json && output[0] == '{' && status != SN_EXIT_USAGE)
		check_json();
	return 0;
}

/* ---- Making inputs -------------------------------------------------------------- */

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char *const seeds[] = {
	"-mRAM\n--format=x86-64\n--root=0x1000\n--levels=4\n0\n0x1000\n",
	"-mRAM\n--format=vtd-ss\n--root=0x1000\n--levels=4\n--range=all\n--json\n",
	("-mRAM@4G\n-mRAM\n--stage\nformat=x86-64,root=0x1000,levels=4,flags=wp+nx\n--stage\n"
         "format=vtd-ss,root=0x100001000,levels=3,oa-bits=40\n-aw\n--color=always\n0x2000\n"),
	"-mRAM\n--format=amd-v1\n--root=0x1000\n--levels=3\n--range=0+1M\n-q\n",
	"-mRAM\n--format=arm-s1\n--root=0x1000\n--granule=4K\n--ia-bits=48\n--json\n0\n",
	"-mRAM\n--format=arm-s2\n--root=0x1000\n--levels=4\n--range=0-0xfffff\n",
	"-mRAM\n--format=riscv64\n--root=0x1000\n--levels=3\n--rights=rw\n--flags=hw-a+hw-d\n4K\n",
	"-mRAM\n--format=riscv32\n--root=0x1000\n--levels=2\n--privileged\n0\n",
	"-mRAM\n--iommu=vtd\n--rid=00:03.0\n--rtaddr=0x1000\n--pasid=1\n--json\n0\n",
	"-mRAM\n--iommu=vtd\n--rid=0\n--rtaddr=0x1400\n--range=all\n",
	"-mRAM\n--iommu=amd\n--rid=0\n--device-table=0x1000\n--request=translation\n0\n",
	"-mRAM\n--iommu=smmu\n--rid=0\n--strtab-base=0x1000\n--strtab-base-cfg=8\n--json\n0\n",
	"-mRAM\n--iommu=riscv\n--rid=0\n--ddtp=0x402\n--access=rwx\n--range=0+2M\n",
	"--help\n",
};

static const char *const words[] = {
	"-mRAM@1M\n",    "--json\n",         "--quiet\n",         "--range=all\n",
	"--range=0+1\n", "--access=none\n",  "--privileged\n",    "--request=page\n",
	"--pasid=0\n",   "--color=always\n", "--ia-bits=39\n",    "--oa-bits=44\n",
	"0x1000\n",      "--levels=5\n",     "--flags=svnapot\n", "--granule=64K\n",
};

/* Where the image begins: behind the first empty line. */
static size_t image_at(const uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (data[i] == '\n' && (i == 0 || data[i - 1] == '\n'))
			return i + 1;
	}
	return size;
}

/* Some tables: each word leads to the next page, in the layouts that share bits. */
static size_t add_tables(uint8_t *data, size_t size, size_t max_size, unsigned n)
{
	static const uint64_t links[] = {0x27, 3, 0x7, 0x6000000000000801, 3, 3, 1, 1, 1};
	uint64_t link = links[n % COUNT(links)];

	fuzz_put(data + size, 3, 0x10000);
	size += 3;
	for (unsigned page = 1; page < 8; page++) {
		uint64_t addr = (page + 1) * 0x1000;
		uint64_t word = n == 6 || n == 7 ? addr >> 2 : addr;

		size = fuzz_record_add(data, size, max_size, page * 512, word | link);
		size = fuzz_record_add(data, size, max_size, page * 512 + 1, page * 0x1000 | 0x4e7);
	}
	return size;
}

static size_t make(uint8_t *data, size_t max_size, unsigned n)
{
	size_t size = strlen(seeds[n]);

	memcpy(data, seeds[n], size);
	data[size++] = '\n';
	return add_tables(data, size, max_size, n);
}

/* Arguments are inserted and dropped whole, words of the image bent. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	struct fuzz_random r = {seed};
	size_t image = image_at(data, size), at = image ? fuzz_below(&r, image) : 0, length;
	const char *word = words[fuzz_below(&r, COUNT(words))];
	const uint8_t *stop;

	while (at && data[at - 1] != '\n')
		at--;
	switch (fuzz_below(&r, 8)) {
	case 0: /* one more argument */
		length = strlen(word);
		if (max_size - size < length)
			break;
		memmove(data + at + length, data + at, size - at);
		memcpy(data + at, word, length);
		return size + length;
	case 1: /* one less */
		stop = memchr(data + at, '\n', image - at);
		if (!stop)
			break;
		memmove(data + at, stop + 1, size - (size_t)(stop + 1 - data));
		return size - (size_t)(stop + 1 - (data + at));
	case 2:
	case 3: /* a bit of the image */
		if (size > image)
			data[image + fuzz_below(&r, size - image)] ^=
				(uint8_t)(1u << fuzz_below(&r, 8));
		return size;
	case 4:
		if (max_size >= 1024)
			return make(data, max_size, (unsigned)fuzz_below(&r, COUNT(seeds)));
		break;
	default:
		break;
	}
	return LLVMFuzzerMutate(data, size, max_size);
}

/* The arguments of one, the image of the other. */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,
                                 size_t size2, uint8_t *out, size_t max_out, unsigned seed)
{
	size_t first = image_at(data1, size1), second = image_at(data2, size2);

	(void)seed;
	if (first + (size2 - second) > max_out)
		return 0;
	memcpy(out, data1, first);
	memcpy(out + first, data2 + second, size2 - second);
	return first + (size2 - second);
}

size_t fuzz_seed(unsigned n, uint8_t *data, size_t max_size)
{
	return n < COUNT(seeds) ? make(data, max_size, n) : 0;
}
