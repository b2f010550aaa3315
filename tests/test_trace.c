/* SPDX-License-Identifier: MIT */
/*
 * The trace reader on good traces, on every mistake that the format rules out,
 * and on files that are cut off, damaged, endless or random. SNEST_TRACES may
 * name a folder of recorded traces (*.snt.gz); all of them must be readable.
 */
#include <errno.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zlib.h>
#include <cmocka.h>

#include <snest/types.h>
#include "tools/trace.h"

#define HEAD "snest-trace 1\nI vtd ver=10 cap=80d2008c222f0686 ecap=f00f4a\n"

/* Writes a file of these bytes and opens it as a trace; the file is gone afterwards. */
static int open_bytes(struct sn_trace **trace, const void *bytes, size_t n, bool compress)
{
	char name[] = "/tmp/snest-trace-XXXXXX";
	int fd = mkstemp(name), ret;
	gzFile file;

	assert_true(fd >= 0);
	if (compress) {
		file = gzdopen(fd, "wb");
		assert_non_null(file);
		assert_int_equal(gzwrite(file, bytes, (unsigned)n), (int)n);
		assert_int_equal(gzclose(file), Z_OK);
	} else {
		assert_int_equal(write(fd, bytes, n), (ssize_t)n);
		assert_int_equal(close(fd), 0);
	}
	ret = sn_trace_open(name, trace);
	unlink(name);
	return ret;
}

static struct sn_trace *open_text(const char *text)
{
	struct sn_trace *trace;
	int ret = open_bytes(&trace, text, strlen(text), false);

	if (ret)
		fail_msg("%s", sn_trace_error(trace));
	return trace;
}

static void next(struct sn_trace *trace, struct sn_trace_event *event, enum sn_trace_kind kind)
{
	if (sn_trace_next(trace, event) != 1)
		fail_msg("%s", sn_trace_error(trace));
	assert_int_equal(event->kind, kind);
}

static void every_kind(void **state)
{
	static const char text[] = HEAD "M 0 80000000\n"
					"# phase one\n"
					"M 100000000 80000000\n"
					"W 1000 0 ffffffffffffffff 12\n"
					"R 18 4 4000000\n"
					"R b8 8 120000f\n"
					"C 04000000000000000f00000000000010\n"
					"D 1042c04 4 2\n"
					"#\n"
					"X 18 - ffffe000 r ok 2359000 fff rw\n"
					"X ffff 2a 1234 w fault 6 cached\n";
	struct sn_trace *trace = open_text(text);
	struct sn_trace_event e;

	(void)state;
	assert_int_equal(sn_trace_iommu(trace)->kind, SN_TRACE_VTD);
	assert_int_equal(sn_trace_iommu(trace)->vtd.ver, 0x10);
	assert_int_equal(sn_trace_iommu(trace)->vtd.cap, 0x80d2008c222f0686);
	assert_int_equal(sn_trace_iommu(trace)->vtd.ecap, 0xf00f4a);
	next(trace, &e, SN_TRACE_RAM);
	assert_int_equal(e.line, 3);
	assert_int_equal(e.ram.gpa, 0);
	assert_int_equal(e.ram.size, 0x80000000);
	next(trace, &e, SN_TRACE_COMMENT);
	assert_string_equal(e.comment, "phase one");
	next(trace, &e, SN_TRACE_RAM);
	assert_int_equal(e.ram.gpa, 0x100000000);
	next(trace, &e, SN_TRACE_WORDS);
	assert_int_equal(e.words.gpa, 0x1000);
	assert_int_equal(e.words.count, 3);
	assert_int_equal(e.words.word[0], 0);
	assert_int_equal(e.words.word[1], UINT64_MAX);
	assert_int_equal(e.words.word[2], 0x12);
	next(trace, &e, SN_TRACE_REGISTER);
	assert_int_equal(e.reg.offset, 0x18);
	assert_int_equal(e.reg.bytes, 4);
	assert_int_equal(e.reg.value, 0x4000000);
	next(trace, &e, SN_TRACE_REGISTER);
	assert_int_equal(e.reg.bytes, 8);
	next(trace, &e, SN_TRACE_COMMAND);
	assert_int_equal(e.command.length, 16);
	assert_int_equal(e.command.bytes[0], 4);
	assert_int_equal(e.command.bytes[8], 0xf);
	assert_int_equal(e.command.bytes[15], 0x10);
	next(trace, &e, SN_TRACE_STORE);
	assert_int_equal(e.store.gpa, 0x1042c04);
	assert_int_equal(e.store.bytes, 4);
	assert_int_equal(e.store.value, 2);
	next(trace, &e, SN_TRACE_COMMENT);
	assert_string_equal(e.comment, "");
	next(trace, &e, SN_TRACE_ANSWER);
	assert_int_equal(e.line, 12);
	assert_int_equal(e.answer.rid, 0x18);
	assert_int_equal(e.answer.pasid, SNEST_NO_PASID);
	assert_int_equal(e.answer.iova, 0xffffe000);
	assert_false(e.answer.write);
	assert_true(e.answer.ok);
	assert_int_equal(e.answer.gpa, 0x2359000);
	assert_int_equal(e.answer.mask, 0xfff);
	assert_int_equal(e.answer.rights, SNEST_READ | SNEST_WRITE);
	assert_false(e.answer.cached);
	next(trace, &e, SN_TRACE_ANSWER);
	assert_int_equal(e.answer.pasid, 0x2a);
	assert_true(e.answer.write);
	assert_false(e.answer.ok);
	assert_int_equal(e.answer.code, 6);
	assert_true(e.answer.cached);
	assert_int_equal(sn_trace_next(trace, &e), 0);
	assert_int_equal(sn_trace_next(trace, &e), 0);
	sn_trace_close(trace);
}

static void every_iommu(void **state)
{
	struct sn_trace *trace;
	struct sn_trace_event e;

	(void)state;
	trace = open_text("snest-trace 1\nI amdvi efr=29d3 cap=190b640f\n");
	assert_int_equal(sn_trace_iommu(trace)->kind, SN_TRACE_AMD);
	assert_int_equal(sn_trace_iommu(trace)->amd.efr, 0x29d3);
	assert_int_equal(sn_trace_iommu(trace)->amd.cap, 0x190b640f);
	sn_trace_close(trace);

	trace = open_text("snest-trace 1\nI smmuv3 idr0=1 idr1=2 idr2=3 idr3=4 idr4=5 idr5=6 "
	                  "aidr=7\n");
	assert_int_equal(sn_trace_iommu(trace)->smmu.idr[5], 6);
	assert_int_equal(sn_trace_iommu(trace)->smmu.aidr, 7);
	sn_trace_close(trace);

	/* In any order. */
	trace = open_text("snest-trace 1\nI riscv dc_len=64 fctl=0 caps=5\n");
	assert_int_equal(sn_trace_iommu(trace)->riscv.dc_len, 64);
	assert_int_equal(sn_trace_iommu(trace)->riscv.caps, 5);
	sn_trace_close(trace);

	trace = open_text("snest-trace 1\nI virtio features=1 page_size_mask=1000 input_start=0 "
	                  "input_end=ffffffffffffffff domain_start=0 domain_end=20 probe_size=200 "
	                  "bypass=1\nR 24 1 0\nC 0102030405 0\nC 01 255 aabb\n");
	assert_int_equal(sn_trace_iommu(trace)->virtio.input_end, UINT64_MAX);
	next(trace, &e, SN_TRACE_REGISTER);
	assert_int_equal(e.reg.bytes, 1);
	next(trace, &e, SN_TRACE_COMMAND);
	assert_int_equal(e.command.length, 5);
	assert_int_equal(e.command.properties_length, 0);
	next(trace, &e, SN_TRACE_COMMAND);
	assert_int_equal(e.command.status, 255);
	assert_int_equal(e.command.properties_length, 2);
	assert_int_equal(e.command.properties[1], 0xbb);
	sn_trace_close(trace);
}

/* A trace that goes wrong says where and why, and stays wrong. */
static void expect_error(const char *text, size_t n, uint64_t line, const char *message)
{
	struct sn_trace *trace;
	struct sn_trace_event e;
	char where[32];
	int ret = open_bytes(&trace, text, n, false);

	while (ret >= 0) {
		ret = sn_trace_next(trace, &e);
		if (ret == 0)
			fail_msg("no error in: %s", text);
	}
	assert_int_equal(ret, -EINVAL);
	snprintf(where, sizeof(where), ":%llu: ", (unsigned long long)line);
	if (!strstr(sn_trace_error(trace), where) || !strstr(sn_trace_error(trace), message))
		fail_msg("'%s' says '%s', not '%s%s'", text, sn_trace_error(trace), where, message);
	assert_int_equal(sn_trace_next(trace, &e), -EINVAL);
	sn_trace_close(trace);
}

static void wrong_beginnings(void **state)
{
	static const struct {
		const char *text;
		unsigned line;
		const char *message;
	} cases[] = {
		{"", 1, "not a trace"},
		{"snest-trace", 1, "no end"},
		{"snest-trace\n", 1, "not a trace"},
		{"# x\nsnest-trace 1\n", 1, "not a trace"},
		{"snest-trace 2\n", 1, "version 2"},
		{"snest-trace 1 \n", 1, "version"},
		{"snest-trace 1\n", 2, "no I line"},
		{"snest-trace 1\nM 0 1000\n", 2, "not the I line"},
		{"snest-trace 1\nI\n", 2, "unknown kind"},
		{"snest-trace 1\nI \n", 2, "not the I line"},
		{"snest-trace 1\nI s390\n", 2, "unknown kind"},
		{"snest-trace 1\nI vtd\n", 2, "ver is missing"},
		{"snest-trace 1\nI vtd ver=10 cap=1\n", 2, "ecap is missing"},
		{"snest-trace 1\nI vtd ver=10 cap=1 ecap=2 efr=3\n", 2, "efr is not a key"},
		{"snest-trace 1\nI vtd ver=10 cap=1 cap=2 ecap=2\n", 2, "cap is there twice"},
		{"snest-trace 1\nI vtd ver=10 cap=1 ecap=2 \n", 2, "value of ecap"},
		{"snest-trace 1\nI vtd ver=10  cap=1 ecap=2\n", 2, "not a key"},
		{"snest-trace 1\nI vtd ver=10 cap ecap=2\n", 2, "cap has no value"},
		{"snest-trace 1\nI vtd ver=10 cap= ecap=2\n", 2, "value of cap"},
		{"snest-trace 1\nI vtd ver=10 cap=0x1 ecap=2\n", 2, "value of cap"},
		{"snest-trace 1\nI vtd ver=10 cap=11112222333344445 ecap=2\n", 2, "value of cap"},
		{"snest-trace 1\nI riscv caps=0 fctl=0 dc_len=40\n", 2, "value of dc_len"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		expect_error(cases[i].text, strlen(cases[i].text), cases[i].line, cases[i].message);
}

static void wrong_lines(void **state)
{
	static const struct {
		const char *line, *message;
	} cases[] = {
		{"", "begins with none"},
		{" ", "begins with none"},
		{"W", "begins with none"},
		{"Z 0", "begins with none"},
		{"I vtd ver=1 cap=1 ecap=1", "begins with none"},
		{"M", "begins with none"},
		{"M 0", "M: address and size"},
		{"M 0 0", "empty or wraps"},
		{"M 1000 ffffffffffffffff", "empty or wraps"},
		{"M 0 1000 1", "too much"},
		{"W 1000", "no words"},
		{"W 1004 1", "multiple of 8"},
		{"W 1000 1 ", "word 1"},
		{"W 1000  1", "W: "},
		{"W 1000 1\r", "word 1"},
		{"W 1000 A", "word 1"},
		{"W 1000 1 12345678901234567", "word 2"},
		{"W 1ff8 1 2", "boundary"},
		{"W x 1", "W: the address"},
		{"R 18 4", "R: "},
		{"R 18 5 1", "R: "},
		{"R 18 2 1", "neither 4 nor 8"},
		{"R 18 99999999999999999999 1", "R: "},
		{"R 18 4 100000000", "R: "},
		{"R 18 4 1 2", "too much"},
		{"C", "begins with none"},
		{"C 00", "16 or 32"},
		{"C 0400000000000000000000000000000", "string of bytes"},
		{"C 0400000000000000000000000000000g", "string of bytes"},
		{"C 04000000000000000000000000000000 0", "too much"},
		{"D 1000 2 1", "neither 4 nor 8"},
		{"D 1000 4 100000000", "D: "},
		{"D fffffffffffffffe 4 1", "wraps"},
		{"X 18 - 0 r", "neither ok nor fault"},
		{"X 18 - 0 x ok 0 fff r", "neither r nor w"},
		{"X 100000000 - 0 r fault 0", "requester"},
		{"X 18 100000 0 r fault 0", "PASID"},
		{"X 18 -- 0 r fault 0", "PASID"},
		{"X 18 - 0 r ok 0 ffe r", "mask"},
		{"X 18 - 0 r ok 0 fff wr", "permission"},
		{"X 18 - 0 r ok 0 fff", "permission"},
		{"X 18 - 0 r fault a", "code"},
		{"X 18 - 0 r fault 4294967296", "code"},
		{"X 18 - 0 r fault 1 cache", "too much"},
		{"X 18 - 0 r fault 1 cached cached", "too much"},
		{"X 18 - 0 rw fault 1", "neither r nor w"},
	};
	char text[512];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(text, sizeof(text), HEAD "# before\n%s\n", cases[i].line);
		expect_error(text, strlen(text), 4, cases[i].message);
	}
	expect_error(HEAD "R 18 4 1", strlen(HEAD "R 18 4 1"), 3, "no end");
	expect_error(HEAD "R 18 4 1\nM 0 1000\n", strlen(HEAD "R 18 4 1\nM 0 1000\n"), 4,
	             "behind the first event");
	expect_error(HEAD "R 18\0 4 1\n", sizeof(HEAD "R 18\0 4 1\n") - 1, 3, "character 0");
}

static void longest_lines(void **state)
{
	char *text = calloc(1, 64 << 10);
	struct sn_trace *trace;
	struct sn_trace_event e;

	(void)state;
	assert_non_null(text);
	strcpy(text, HEAD "W 1000");
	for (unsigned i = 0; i < 512; i++)
		strcat(text, " ffffffffffffffff");
	strcat(text, "\n");
	trace = open_text(text);
	next(trace, &e, SN_TRACE_WORDS);
	assert_int_equal(e.words.count, 512);
	assert_int_equal(e.words.word[511], UINT64_MAX);
	sn_trace_close(trace);

	strcpy(strchr(text, 'W'), "W 1000");
	for (unsigned i = 0; i < 513; i++)
		strcat(text, " 1");
	strcat(text, "\n");
	expect_error(text, strlen(text), 3, "boundary");

	strcpy(text, HEAD "R ");
	memset(text + strlen(text), '0', 40000);
	strcat(text, "\n");
	expect_error(text, strlen(text), 3, "longer than");

	/* Comments are for people: too long a one is cut. */
	*strchr(text, 'R') = '#';
	strcat(text, "R 18 4 1\n");
	trace = open_text(text);
	next(trace, &e, SN_TRACE_COMMENT);
	assert_true(strlen(e.comment) < SN_TRACE_LINE_MAX);
	next(trace, &e, SN_TRACE_REGISTER);
	assert_int_equal(e.line, 4);
	sn_trace_close(trace);
	free(text);
}

static void comments_are_printable(void **state)
{
	static const char text[] = HEAD "# \033[31mred\0\t\xff\x7f\n";
	struct sn_trace *trace;
	struct sn_trace_event e;

	(void)state;
	assert_int_equal(open_bytes(&trace, text, sizeof(text) - 1, false), 0);
	next(trace, &e, SN_TRACE_COMMENT);
	assert_string_equal(e.comment, "?[31mred????");
	sn_trace_close(trace);
}

/* A long trace, so that compressed data is worth cutting. */
static char *long_text(size_t *length)
{
	size_t capacity = 4 << 20, n;
	char *text = malloc(capacity);
	uint64_t x = 1;

	assert_non_null(text);
	n = (size_t)sprintf(text, HEAD);
	for (unsigned i = 0; i < 20000; i++) {
		x = x * 6364136223846793005 + 1442695040888963407;
		n += (size_t)sprintf(text + n, "W %llx %llx %llx\n",
		                     (unsigned long long)(x >> 20 & ~0xfffull),
		                     (unsigned long long)x, (unsigned long long)(x ^ x >> 7));
	}
	*length = n;
	return text;
}

static void compressed_equals_plain(void **state)
{
	size_t n;
	char *text = long_text(&n);
	struct sn_trace *plain, *packed;
	struct sn_trace_event a, b;
	unsigned events = 0;

	(void)state;
	assert_int_equal(open_bytes(&plain, text, n, false), 0);
	assert_int_equal(open_bytes(&packed, text, n, true), 0);
	for (; sn_trace_next(plain, &a) == 1; events++) {
		assert_int_equal(sn_trace_next(packed, &b), 1);
		assert_int_equal(a.line, b.line);
		assert_int_equal(a.words.gpa, b.words.gpa);
		assert_memory_equal(a.words.word, b.words.word, 16);
	}
	assert_int_equal(events, 20000);
	assert_int_equal(sn_trace_next(packed, &b), 0);
	sn_trace_close(plain);
	sn_trace_close(packed);
	free(text);
}

/* Compressed bytes of a text, as a file holds them. */
static unsigned char *gzip(const char *text, size_t n, size_t *packed)
{
	char name[] = "/tmp/snest-trace-XXXXXX";
	int fd = mkstemp(name);
	unsigned char *bytes = malloc(n + 4096);
	gzFile file = gzdopen(dup(fd), "wb");
	ssize_t got;

	assert_non_null(bytes);
	assert_non_null(file);
	assert_int_equal(gzwrite(file, text, (unsigned)n), (int)n);
	assert_int_equal(gzclose(file), Z_OK);
	got = pread(fd, bytes, n + 4096, 0);
	assert_true(got > 0);
	close(fd);
	unlink(name);
	*packed = (size_t)got;
	return bytes;
}

/* Reads to the end; the last return value. */
static int drain(const void *bytes, size_t n, char message[256])
{
	struct sn_trace *trace;
	struct sn_trace_event e;
	int ret = open_bytes(&trace, bytes, n, false);

	if (!ret) {
		do {
			ret = sn_trace_next(trace, &e);
			if (ret == 1 && e.kind == SN_TRACE_WORDS)
				assert_in_range(e.words.count, 1, SN_TRACE_WORDS_MAX);
		} while (ret == 1);
	}
	snprintf(message, 256, "%s", sn_trace_error(trace));
	sn_trace_close(trace);
	return ret;
}

static void cut_off_and_damaged(void **state)
{
	size_t n, packed;
	char *text = long_text(&n), message[256];
	unsigned char *bytes = gzip(text, n, &packed);

	(void)state;
	assert_int_equal(drain(bytes, packed, message), 0);
	assert_int_equal(drain(bytes, packed / 2, message), -EIO);
	assert_non_null(strstr(message, "cut off"));
	assert_int_equal(drain(bytes, packed - 5, message), -EIO);
	/* The checksum at the end finds what the text itself does not show. */
	bytes[packed - 6] ^= 1;
	assert_int_equal(drain(bytes, packed, message), -EIO);
	assert_non_null(strstr(message, "damaged"));
	bytes[packed - 6] ^= 1;
	bytes[packed / 3] ^= 0x10;
	assert_true(drain(bytes, packed, message) < 0);
	free(bytes);
	free(text);
}

/* 256 MiB of one line in 256 KiB of file: refused without keeping it. */
static void memory_is_bounded(void **state)
{
	char name[] = "/tmp/snest-trace-XXXXXX";
	char *zeros = calloc(1, 1 << 20);
	gzFile file = gzdopen(mkstemp(name), "wb");
	struct sn_trace *trace;
	struct sn_trace_event e;
	struct rusage before, after;

	(void)state;
	assert_non_null(zeros);
	assert_non_null(file);
	gzputs(file, HEAD);
	memset(zeros, '#', 1 << 20);
	for (unsigned i = 0; i < 256; i++)
		assert_int_equal(gzwrite(file, zeros, 1 << 20), 1 << 20);
	gzputs(file, "\n");
	assert_int_equal(gzclose(file), Z_OK);
	free(zeros);
	getrusage(RUSAGE_SELF, &before);
	assert_int_equal(sn_trace_open(name, &trace), 0);
	next(trace, &e, SN_TRACE_COMMENT);
	assert_int_equal(sn_trace_next(trace, &e), 0);
	getrusage(RUSAGE_SELF, &after);
	assert_in_range(after.ru_maxrss - before.ru_maxrss, 0, 16 << 10);
	sn_trace_close(trace);
	unlink(name);
}

static void random_changes_are_survived(void **state)
{
	static const char good[] = HEAD "M 0 80000000\nW 1000 0 ffffffffffffffff 12\nR 18 4 4\n"
					"C 04000000000000000f00000000000010\nD 1042c04 4 2\n"
					"X 18 - ffffe000 r ok 2359000 fff rw\n"
					"X 18 2a ffffe000 w fault 6 cached\n";
	char bad[sizeof(good)], message[256];
	uint64_t x = 88172645463325252;
	unsigned fine = 0;

	(void)state;
	for (unsigned round = 0; round < 5000; round++) {
		memcpy(bad, good, sizeof(good));
		for (unsigned i = 0; i <= round % 3; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			bad[x % (sizeof(good) - 1)] =
				x >> 60 ? good[(x >> 20) % (sizeof(good) - 1)] : (char)(x >> 40);
		}
		fine += drain(bad, sizeof(good) - 1, message) == 0;
	}
	assert_in_range(fine, 1, 4999);
}

static void no_such_file(void **state)
{
	struct sn_trace *trace;

	(void)state;
	assert_int_equal(sn_trace_open("/nowhere/x.snt", &trace), -ENOENT);
	assert_string_equal(sn_trace_error(trace), "/nowhere/x.snt: No such file or directory");
	sn_trace_close(trace);
	assert_int_equal(sn_trace_open("/", &trace), -EIO);
	sn_trace_close(trace);
	sn_trace_close(NULL);
}

static void recorded_traces(void **state)
{
	const char *folder = getenv("SNEST_TRACES");
	char pattern[512];
	glob_t found;

	(void)state;
	if (!folder)
		skip();
	snprintf(pattern, sizeof(pattern), "%s/*.snt.gz", folder);
	assert_int_equal(glob(pattern, 0, NULL, &found), 0);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		struct sn_trace *trace;
		struct sn_trace_event e;
		int ret = sn_trace_open(found.gl_pathv[i], &trace);

		if (!ret) {
			do
				ret = sn_trace_next(trace, &e);
			while (ret == 1);
		}
		if (ret)
			fail_msg("%s", sn_trace_error(trace));
		sn_trace_close(trace);
	}
	globfree(&found);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind),
		cmocka_unit_test(every_iommu),
		cmocka_unit_test(wrong_beginnings),
		cmocka_unit_test(wrong_lines),
		cmocka_unit_test(longest_lines),
		cmocka_unit_test(comments_are_printable),
		cmocka_unit_test(compressed_equals_plain),
		cmocka_unit_test(cut_off_and_damaged),
		cmocka_unit_test(memory_is_bounded),
		cmocka_unit_test(random_changes_are_survived),
		cmocka_unit_test(no_such_file),
		cmocka_unit_test(recorded_traces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
