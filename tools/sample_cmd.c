/* SPDX-License-Identifier: MIT */
/*
 * `snest sample`: writes a memory image with small VT-d tables of every kind
 * worth seeing, and prints the `snest walk` commands that explore it.
 *
 * The entries are put together by hand from the architecture's layouts, not by
 * the library's writer, so that what `snest walk` says about them is a check.
 *
 *   100000  legacy root table, 101000 its context table
 *   110000  second-stage table of 00:03.0
 *   11f000  a table that points to itself, of 00:06.0
 *   120000  scalable-mode root, contexts, PASID directory, PASID table
 *   130000  first-stage table of PASID 1
 *   150000  second-stage table under PASID 2, which moves GPAs up by 16 MiB
 *  1010000  first-stage table of PASID 2 (guest address 10000)
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "tools/tool.h"

#define IMAGE_BYTES ((size_t)64 << 20)

#define LEGACY_ROOT 0x100000u
#define SCALABLE_ROOT 0x120000u

/* Second stage. */
#define SS_R 0x1u
#define SS_W 0x2u
#define SS_RW 0x3u
#define SS_PS 0x80u
#define SS_A 0x100u
#define SS_D 0x200u
#define SS_SNP 0x800u
/* First stage. */
#define FS_P 0x1u
#define FS_RW 0x2u
#define FS_US 0x4u
#define FS_USER 0x7u
#define FS_AD 0x60u
#define FS_PS 0x80u

struct image {
	unsigned char *bytes;
};

/* Entry `index` of the table at `table` becomes `value`. Guest memory is little-endian. */
static void put(struct image *image, uint64_t table, unsigned index, uint64_t value)
{
	unsigned char *at = image->bytes + table + 8 * (uint64_t)index;

	for (unsigned i = 0; i < 8; i++)
		at[i] = (unsigned char)(value >> 8 * i);
}

/* A chain of 4 levels: entry 0 of `table` and of the next three pages lead on, with `bits`. */
static void chain(struct image *image, uint64_t table, uint64_t first, uint64_t bits)
{
	put(image, table, 0, first | bits);
	put(image, first, 0, (first + 0x1000) | bits);
	put(image, first + 0x1000, 0, (first + 0x2000) | bits);
}

static void second_stage(struct image *image)
{
	chain(image, 0x110000, 0x111000, SS_RW);
	for (unsigned i = 0; i < 16; i++) {
		put(image, 0x113000, i, (0x200000 + i * 0x1000) | SS_RW);
		/* The same 64 KiB, in an order without neighbours. */
		put(image, 0x113000, 32 + i, (0x400000 + i * 7 % 16 * 0x1000) | SS_RW);
	}
	put(image, 0x113000, 16, 0x300000 | SS_R);
	put(image, 0x113000, 17, 0x301000 | SS_W);
	put(image, 0x112000, 1, 0x800000 | SS_RW | SS_PS | SS_A | SS_D);
	put(image, 0x112000, 2, 0x118000 | SS_RW | SS_SNP); /* SNP is reserved in a table entry */
	put(image, 0x112000, 3, 0xa00000 | SS_R | SS_PS | SS_A);
	put(image, 0x111000, 1, 0x40000000 | SS_RW | SS_PS);
	put(image, 0x110000, 1, 0x114000 | SS_RW);
	put(image, 0x114000, 0, 0x7ff0000000 | SS_RW); /* a table where there is no memory */
}

static void legacy_mode(struct image *image)
{
	put(image, LEGACY_ROOT, 0, 0x101000 | 1);
	put(image, 0x101000, 2 * 0x18, 0x110000 | 1); /* 00:03.0, domain 1, 4 levels */
	put(image, 0x101000, 2 * 0x18 + 1, 1 << 8 | 2);
	put(image, 0x101000, 2 * 0x20, 2 << 2 | 1); /* 00:04.0, domain 2, pass-through */
	put(image, 0x101000, 2 * 0x20 + 1, 2 << 8 | 3);
	put(image, 0x101000, 2 * 0x30, 0x11f000 | 1); /* 00:06.0, domain 3 */
	put(image, 0x101000, 2 * 0x30 + 1, 3 << 8 | 2);
	for (unsigned i = 0; i < 512; i++)
		put(image, 0x11f000, i, 0x11f000 | SS_RW);
}

/* PASID table entries of 64 bytes; word 1 is the domain, word 2 the first stage. */
static void pasid_entry(struct image *image, unsigned pasid, uint64_t word0, uint64_t domain,
                        uint64_t word2)
{
	put(image, 0x123000, 8 * pasid, word0);
	put(image, 0x123000, 8 * pasid + 1, domain);
	put(image, 0x123000, 8 * pasid + 2, word2);
}

static void scalable_mode(struct image *image)
{
	enum {
		AW4 = 2 << 2,
		PGTT_FS = 1 << 6,
		PGTT_SS = 2 << 6,
		PGTT_NESTED = 3 << 6
	};
	enum {
		PGTT_PT = 4 << 6,
		P = 1,
		PASIDE = 1 << 3,
		SRE = 1
	};

	put(image, SCALABLE_ROOT, 0, 0x121000 | P);
	put(image, 0x121000, 4 * 0x18, 0x122000 | PASIDE | P); /* 00:03.0 */
	put(image, 0x122000, 0, 0x123000 | P);
	pasid_entry(image, 0, 0x110000 | PGTT_SS | AW4 | P, 16, 0);
	pasid_entry(image, 1, PGTT_FS | P, 17, 0x130000 | SRE);
	pasid_entry(image, 2, 0x150000 | PGTT_NESTED | AW4 | P, 18, 0x10000);
	pasid_entry(image, 3, PGTT_PT | AW4 | P, 19, 0);
}

static void first_stage(struct image *image)
{
	/* User pages at 0x7f0000000000, a supervisor page at the top. */
	put(image, 0x130000, 254, 0x131000 | FS_USER);
	chain(image, 0x131000, 0x132000, FS_USER);
	for (unsigned i = 0; i < 8; i++)
		put(image, 0x133000, i, (0x500000 + i * 0x1000) | FS_USER | FS_AD);
	put(image, 0x133000, 8, 0x508000 | FS_P | FS_US);
	put(image, 0x130000, 511, 0x135000 | FS_P | FS_RW);
	put(image, 0x135000, 511, 0x40000000 | FS_P | FS_RW | FS_PS | FS_AD);
}

static void nested(struct image *image)
{
	chain(image, 0x150000, 0x151000, SS_RW);
	put(image, 0x152000, 0, 0x1000000 | SS_RW | SS_PS);
	put(image, 0x152000, 1, 0x153000 | SS_RW);
	for (unsigned i = 0; i < 512; i++)
		put(image, 0x153000, i, (0x1200000 + i * 0x1000) | (i < 256 ? SS_RW : SS_R));

	/* The guest's addresses are 16 MiB lower than where its memory is. */
	put(image, 0x1010000, 0, 0x11000 | FS_USER);
	put(image, 0x1011000, 0, 0x12000 | FS_USER);
	put(image, 0x1012000, 0, 0x13000 | FS_USER);
	for (unsigned i = 0; i < 16; i++)
		put(image, 0x1013000, i, (0x20000 + i * 0x1000) | FS_USER | FS_AD);
	put(image, 0x1012000, 1, 0x200000 | FS_USER | FS_PS | FS_AD);
	put(image, 0x1012000, 2, 0x400000 | FS_USER | FS_PS | FS_AD); /* not in the second stage */
	put(image, 0x1012000, 3, 0x600000 | FS_USER);                 /* nor is this table */
}

static void commands(const struct sn_tool *tool, const char *file)
{
	static const struct {
		const char *what;
		uint32_t root;
		const char *arguments;
	} lines[] = {
		{"A 4 KiB, a 2 MiB and a 1 GiB page of a legacy-mode device", LEGACY_ROOT,
	         "--rid 00:03.0 0x1234 0x234567 0x40001234"},
		{"Faults: no mapping, a read-only page, a reserved bit, a table outside memory",
	         LEGACY_ROOT, "--rid 00:03.0 --access w 0x18000 0x10000 0x400000 0x8000000000"},
		{"A device without a context entry; one in pass-through mode", LEGACY_ROOT,
	         "--rid 00:05.0 0x1000"},
		{NULL, LEGACY_ROOT, "--rid 00:04.0 0x1000"},
		{"All that the device can reach", LEGACY_ROOT, "--rid 00:03.0 --range all"},
		{"Scalable mode: a first stage; privileged access to its upper half", SCALABLE_ROOT,
	         "--rid 00:03.0 --pasid 1 0x7f0000001234"},
		{NULL, SCALABLE_ROOT, "--rid 00:03.0 --pasid 1 --privileged 0xffffffffc0001234"},
		{"Nested: each entry of the first stage is found through the second", SCALABLE_ROOT,
	         "--rid 00:03.0 --pasid 2 0x3456"},
		{"Nested faults: a page and a table that the second stage does not map",
	         SCALABLE_ROOT, "--rid 00:03.0 --pasid 2 0x400000 0x600000"},
		{"A run of both stages ends where either ends", SCALABLE_ROOT,
	         "--rid 00:03.0 --pasid 2 --range all"},
		{"One page that, used as a table at every level, maps 2^36 pages: a budget ends it",
	         LEGACY_ROOT, "--rid 00:06.0 --range all --budget 2000 | tail -n 3"},
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		if (lines[i].what)
			printf("%s# %s\n", i ? "\n" : "", lines[i].what);
		sn_tool_quoted(stdout, tool->program);
		fputs(" walk -m ", stdout);
		sn_tool_quoted(stdout, file);
		printf(" --iommu vtd --rtaddr 0x%x %s\n",
		       lines[i].root | (lines[i].root == SCALABLE_ROOT ? 1 << 10 : 0),
		       lines[i].arguments);
	}
}

static int write_image(const struct sn_tool *tool, const char *file)
{
	struct image image;
	int fd = open(file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	int error = 0;

	if (fd < 0)
		return sn_tool_error(tool, "%s: %s", file, strerror(errno));
	if (ftruncate(fd, (off_t)IMAGE_BYTES)) {
		error = errno;
	} else {
		image.bytes = mmap(NULL, IMAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (image.bytes == MAP_FAILED) {
			error = errno;
		} else {
			second_stage(&image);
			legacy_mode(&image);
			scalable_mode(&image);
			first_stage(&image);
			nested(&image);
			if (msync(image.bytes, IMAGE_BYTES, MS_SYNC))
				error = errno;
			munmap(image.bytes, IMAGE_BYTES);
		}
	}
	if (close(fd) && !error)
		error = errno;
	return error ? sn_tool_error(tool, "%s: %s", file, strerror(error)) : 0;
}

static void help(void)
{
	fputs("Usage: snest sample FILE\n"
	      "\n"
	      "Writes a memory image (64 MiB, nearly all of it holes) with small VT-d tables to\n"
	      "FILE, replacing it, and prints commands that explore it, ready for a shell.\n"
	      "\n"
	      "Options:\n"
	      "  -h, --help  this text\n"
	      "\n"
	      "Exit status: 0 written, 2 wrong arguments, or FILE cannot be written.\n"
	      "\n"
	      "Example:\n"
	      "  snest sample sample.img | sh -v\n",
	      stdout);
}

int sn_cmd_sample(struct sn_tool *tool, int argc, char **argv)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int c, status;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		if (c == '?' || c == ':')
			return sn_tool_bad_option(tool, c, argv);
		help();
		return SN_EXIT_OK;
	}
	if (argc - optind != 1)
		return sn_tool_usage(tool, "%s",
		                     argc == optind ? "which file? FILE is missing"
		                                    : "one FILE, not several");
	status = write_image(tool, argv[optind]);
	if (!status)
		commands(tool, argv[optind]);
	return status;
}
