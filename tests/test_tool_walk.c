/* SPDX-License-Identifier: MIT */
/*
 * `snest walk` and `snest sample` as a user meets them: output, exit status,
 * messages. Runs the program named by SNEST_COMMAND. What addresses must lead
 * to was worked out by hand from the layout that tools/sample_cmd.c describes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "support/command.h"

#define LEGACY "--iommu vtd --rtaddr 0x100000 --rid 00:03.0 "
#define SCALABLE "--iommu vtd --rtaddr 0x120400 --rid 00:03.0 "
#define SS "--format vtd-ss --root 0x110000 --levels 4 "

static int setup(void **state)
{
	struct fixture *f = fixture_create();

	run(f, "sample s.img");
	ends(f, 0);
	*state = f;
	return 0;
}

/* ---- One address ----------------------------------------------------------- */

static void page_sizes(void **state)
{
	struct fixture *f = *state;

	run(f, "walk -m s.img " LEGACY "0x1234 0x234567 0x40001234");
	ends(f, 0);
	says(f, "GPA 0x201234  4 KiB");
	says(f, "GPA 0x834567  2 MiB");
	says(f, "GPA 0x40001234  1 GiB");
	says(f, "domain 1");
}

static void entries_on_the_way(void **state)
{
	struct fixture *f = *state;

	run(f, "walk -m s.img " SS "0x5678");
	ends(f, 0);
	says(f, "0x0000110000: 0x0000000000111003");
	says(f, "0x0000111000: 0x0000000000112003");
	says(f, "0x0000112000: 0x0000000000113003");
	says(f, "0x0000113028: 0x0000000000205003");
	run(f, "walk -q -m s.img " SS "0x5678");
	says_not(f, "0x0000110000:");
	says(f, "GPA 0x205678");
}

static void target_in_and_out_of_images(void **state)
{
	struct fixture *f = *state;

	run(f, "walk -m s.img " LEGACY "0x1234");
	says(f, "(s.img + 0x201234)");
	run(f, "walk -m s.img " LEGACY "0x40001234");
	says(f, "(in no image)");
}

static void image_at_a_base(void **state)
{
	struct fixture *f = *state;
	uint64_t table[512] = {0x8000001003, 0x8000002003, [511] = 0x123003};

	/* One page that is the table of all four levels. */
	table[0] = 0x8000000003;
	write_file(f, "high.img", table, sizeof(table));
	run(f, "walk -m s.img -m high.img@0x8000000000 --format vtd-ss --levels 4 "
	       "--root 0x8000000000 0x1ff456");
	ends(f, 0);
	says(f, "GPA 0x123456  4 KiB");
	says(f, "(s.img + 0x123456)");
	run(f, "walk -m high.img@512G --format vtd-ss --levels 4 --root 512G 0x1ff456");
	ends(f, 0);
	says(f, "(in no image)");
}

static void faults(void **state)
{
	struct fixture *f = *state;

	run(f, "walk -m s.img " LEGACY "0x18000");
	ends(f, 1);
	says(f, "not present");
	says(f, "vtd code 0x6");
	run(f, "walk -m s.img " LEGACY "-a w 0x10000");
	ends(f, 1);
	says(f, "no right to write");
	says(f, "vtd code 0x5");
	says(f, "entry at 0x113080: 0x0000000000300001");
	run(f, "walk -m s.img " LEGACY "0x400000");
	ends(f, 1);
	says(f, "reserved bit");
	says(f, "vtd code 0xc");
	run(f, "walk -m s.img " LEGACY "0x8000000000");
	ends(f, 1);
	says(f, "vtd code 0x7");
	says(f, "no memory there");
	run(f, "walk -m s.img " LEGACY "0x1000000000000");
	ends(f, 1);
	says(f, "vtd code 0x4");
}

static void one_fault_of_several_addresses(void **state)
{
	struct fixture *f = *state;

	run(f, "walk -m s.img " LEGACY "0x1234 0x18000 0x234567");
	ends(f, 1);
	says(f, "GPA 0x201234");
	says(f, "GPA 0x834567");
}

static void access_kinds(void **state)
{
	struct fixture *f = *state;

	run(f, "walk -m s.img " LEGACY "-a r 0x11000");
	ends(f, 1);
	run(f, "walk -m s.img " LEGACY "-a w 0x11000");
	ends(f, 0);
	run(f, "walk -m s.img " LEGACY "-a rw 0x11000");
	ends(f, 1);
	run(f, "walk -m s.img " LEGACY "-a none 0x11000");
	ends(f, 0);
	run(f, "walk -m s.img " SCALABLE "--pasid 1 0xffffffffc0001234");
	ends(f, 1);
	says(f, "vtd code 0x81");
	run(f, "walk -m s.img " SCALABLE "--pasid 1 --privileged 0xffffffffc0001234");
	ends(f, 0);
	says(f, "GPA 0x40001234  1 GiB");
}

static void contexts(void **state)
{
	struct fixture *f = *state;

	run(f, "walk -m s.img --iommu vtd --rtaddr 0x100000 --rid 00:05.0 0");
	ends(f, 1);
	says(f, "vtd code 0x2");
	run(f, "walk -m s.img --iommu vtd --rtaddr 0x100000 --rid 01:05.0 0");
	ends(f, 1);
	says(f, "vtd code 0x1");
	run(f, "walk -m s.img --iommu vtd --rtaddr 0x100000 --rid 00:04.0 0x1234567");
	ends(f, 0);
	says(f, "pass-through");
	says(f, "GPA 0x1234567");
	run(f, "walk -m s.img " SCALABLE "0x1234");
	ends(f, 0);
	says(f, "domain 16");
	says(f, "GPA 0x201234");
	run(f, "walk -m s.img " SCALABLE "--pasid 3 0x1234");
	ends(f, 0);
	says(f, "GPA 0x1234");
	run(f, "walk -m s.img " SCALABLE "--pasid 4 0x1234");
	ends(f, 1);
	says(f, "vtd code 0x59");
}

/* One 4 KiB page at IOVA 0x1000 each, through the structures of the other three. */
static void other_iommus(void **state)
{
	static const struct {
		uint32_t at;
		uint64_t word;
	} words[] = {
		/* AMD: device table entry of 00:03.0, domain 7, mode 3 */
		{0x10300, 0x6000000000020603},
		{0x10308, 7},
		{0x20000, 0x6000000000021401},
		{0x21000, 0x6000000000022201},
		{0x22008, 0x6000000000005001},
		/* RISC-V: device 5 in a directory of one level, PSCID 9, Sv39 */
		{0x30140, 1},
		{0x30150, 9 << 12},
		{0x30158, 0x8000000000000031},
		{0x31000, 0x32 << 10 | 1},
		{0x32000, 0x33 << 10 | 1},
		{0x33008, 0x6 << 10 | 0xd7},
		/* SMMUv3: stream 3, stage 2 only, VMID 4, 39 bits from level 1 on */
		{0x400c0, 6 << 1 | 1},
		{0x400d0, 1ull << 58 | 1ull << 51 | 5ull << 48 | 1ull << 38 | 25ull << 32 | 4},
		{0x400d8, 0x50000},
		{0x50000, 0x51003},
		{0x51000, 0x52003},
		{0x52008, 0x74c3},
	};
	static unsigned char image[0x60000];
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		for (unsigned b = 0; b < 8; b++)
			image[words[i].at + b] = (unsigned char)(words[i].word >> 8 * b);
	}
	write_file(f, "other.img", image, sizeof(image));
	run(f, "walk -m other.img --iommu amd --device-table 0x10000 --rid 00:03.0 -a rw 0x1234");
	ends(f, 0);
	says(f, "RID 00:03.0: domain 7");
	says(f, "GPA 0x5234  4 KiB rw");
	run(f, "walk -m other.img --iommu riscv --ddtp 0xc002 --rid 5 -a rw 0x1234");
	ends(f, 0);
	says(f, "Device 0x5: domain 0, space 9");
	says(f, "GPA 0x6234  4 KiB rw");
	run(f, "walk -m other.img --iommu smmu --strtab-base 0x40000 --strtab-base-cfg 4 --rid 3 "
	       "-a rw 0x1234");
	ends(f, 0);
	says(f, "Stream 0x3: domain 4");
	says(f, "GPA 0x7234  4 KiB rw");
	run(f, "walk -m other.img --iommu smmu --strtab-base 0x40000 --strtab-base-cfg 4 --rid 3 "
	       "0x2000");
	ends(f, 1);
	says(f, "smmu code 0x10 ");
}

static void nested(void **state)
{
	struct fixture *f = *state;

	run(f, "walk -m s.img " SCALABLE "--pasid 2 0x3456");
	ends(f, 0);
	/* The first stage's table is found through the second, one step further in. */
	says(f, "\n    stage 1 SL4E   0x0000150000: 0x0000000000151003");
	says(f, "\n  stage 0 PTE    0x0000013018: 0x0000000000023067");
	says(f, "\n  stage 1 SL2E   0x0000152000: 0x0000000001000083");
	says(f, "GPA 0x1023456  4 KiB");
	run(f, "walk -m s.img --stage format=x86-64,root=0x10000,levels=4 "
	       "--stage format=vtd-ss,levels=4,root=0x150000 0x3456");
	ends(f, 0);
	says(f, "GPA 0x1023456  4 KiB");
	run(f, "walk -m s.img " SCALABLE "--pasid 2 0x600000");
	ends(f, 1);
	says(f, "refused by stage 1");
	says(f, "while the level 0 entry of stage 0 was being read");
}

static void three_stages(void **state)
{
	struct fixture *f = *state;

	/* A stage that maps the first 2 GiB one to one, behind the two. */
	run(f, "walk -m s.img --stage format=x86-64,root=0x10000,levels=4 "
	       "--stage format=vtd-ss,levels=4,root=0x150000 "
	       "--stage format=vtd-ss,levels=4,root=0x2000000 0x3456");
	ends(f, 1);
	says(f, "refused by stage 2, level 3");
	says(f, "while the level 3 entry of stage 1 was being read");
	says(f, "\n      stage 2 SL4E");
}

/* ---- Lists ---------------------------------------------------------------- */

/* Each run of a list says the same as single walks at its ends and just outside. */
static void check_runs(struct fixture *f, const char *source, unsigned wanted)
{
	char *list, *line, *next;
	unsigned runs = 0;

	run(f, "walk -q -m s.img %s --range all", source);
	ends(f, 0);
	list = strdup(f->output);
	assert_non_null(list);
	for (line = list; (next = strchr(line, '\n')); line = next + 1) {
		unsigned long long first, last, gpa;
		char size[16], unit[8], rights[8], expected[128];

		*next = '\0';
		if (sscanf(line, "0x%llx 0x%llx %15s %7s 0x%llx %7s", &first, &last, size, unit,
		           &gpa, rights) != 6)
			continue;
		runs++;
		run(f, "walk -q -m s.img %s -a %s 0x%llx 0x%llx", source,
		    rights[0] == 'r' ? "r" : "w", first, last);
		ends(f, 0);
		snprintf(expected, sizeof(expected), "IOVA 0x%llx, %s\n  GPA 0x%llx ", first,
		         rights[0] == 'r' ? "read" : "write", gpa);
		says(f, expected);
		says(f, rights);
		snprintf(expected, sizeof(expected), "\n  GPA 0x%llx ", gpa + (last - first));
		says(f, expected);
	}
	assert_int_equal(runs, wanted);
	free(list);
}

static void list_agrees_with_walks(void **state)
{
	check_runs(*state, LEGACY, 22);
	check_runs(*state, SCALABLE "--pasid 1", 2);
	check_runs(*state, SCALABLE "--pasid 2", 3);
}

static void list_of_a_part(void **state)
{
	struct fixture *f = *state;

	run(f, "walk -m s.img " LEGACY "--range 0x3000-0x4fff");
	ends(f, 0);
	says(f, "0x0000000000003000 0x0000000000004fff     8 KiB  0x0000000203000");
	says(f, "1 run, 8 KiB mapped");
	run(f, "walk -m s.img " LEGACY "--range 0x3000+8K");
	says(f, "1 run, 8 KiB mapped");
	run(f, "walk -m s.img " LEGACY "--range 1T-2T");
	ends(f, 0);
	says(f, "0 runs, 0 B mapped");
}

static void list_of_a_broken_context(void **state)
{
	struct fixture *f = *state;

	run(f, "walk -m s.img --iommu vtd --rtaddr 0x100000 --rid 00:05.0 --range all");
	ends(f, 1);
	says(f, "vtd code 0x2");
	run(f, "walk -m s.img --iommu vtd --rtaddr 0x100000 --rid 00:05.0 --range all --json");
	ends(f, 1);
	is_json(f);
}

static void hostile_table_ends_at_the_budget(void **state)
{
	struct fixture *f = *state;

	run(f, "walk -m s.img --iommu vtd --rtaddr 0x100000 --rid 00:06.0 --range all "
	       "--budget 3000");
	ends(f, 3);
	says(f, "stopped after 3000 entries");
	says(f, "Go on with --range 0x");
	run(f, "walk -m s.img --iommu vtd --rtaddr 0x100000 --rid 00:06.0 --range all "
	       "--budget 3M --json >/dev/null");
	ends(f, 3);
}

static void stopped_list_goes_on_where_it_says(void **state)
{
	struct fixture *f = *state;
	unsigned long long from = 0;
	char resume[64] = "0x0-0xffffffffffff", *at;
	unsigned pieces = 0;

	do {
		char range[64];

		memcpy(range, resume, sizeof(range));
		run(f, "walk -m s.img " SS "--range %s --budget 300", range);
		at = strstr(f->output, "Go on with --range ");
		if (at) {
			assert_int_equal(sscanf(at, "Go on with --range %63[^, ],", resume), 1);
			assert_true(strtoull(resume, NULL, 16) > from);
			from = strtoull(resume, NULL, 16);
		}
		ends(f, at ? 3 : 0);
		assert_true(++pieces < 100);
	} while (at);
	assert_true(pieces > 3);
}

/* ---- JSON ------------------------------------------------------------------ */

static void json_of_walks(void **state)
{
	struct fixture *f = *state;

	run(f, "walk --json -m s.img " SCALABLE "--pasid 2 0x3456 0x600000");
	ends(f, 1);
	is_json(f);
	says(f, "\"gpa\": \"0x1023456\"");
	says(f, "\"outcome\": \"translated\"");
	says(f, "\"outcome\": \"fault\"");
	says(f, "\"depth\": 1");
	run(f, "walk --json -q -m s.img " SS "0 0x18000");
	is_json(f);
	says(f, "\"context\": null");
	says_not(f, "steps");
}

static void json_of_lists(void **state)
{
	struct fixture *f = *state;

	run(f, "walk --json -m s.img " LEGACY "--range all");
	ends(f, 0);
	is_json(f);
	says(f, "\"complete\": true");
	says(f, "\"runs\": 22");
	run(f, "walk --json -m s.img " LEGACY "--range 1T-2T");
	is_json(f);
	run(f, "walk --json -m s.img " SS "--range all --budget 300 2>/dev/null");
	ends(f, 3);
	is_json(f);
	says(f, "\"complete\": false");
	says(f, "\"resume\": \"0x");
}

static void json_escapes_names(void **state)
{
	struct fixture *f = *state;
	char page[4096] = {0};

	write_file(f, "a\"b\\c\nd\xff.img", page, sizeof(page));
	run(f, "walk --json -m 'a\"b\\c\nd\xff.img' --stage format=vtd-ss,root=0,levels=3 0");
	is_json(f);
	run(f, "walk --json -m 'a\"b\\c\nd\xff.img@0x40000000' -m s.img " LEGACY "0x40000010");
	ends(f, 0);
	is_json(f);
	says(f, "a\\\"b\\\\c\\u000ad\\u00ff.img");
}

/* ---- Wrong input ------------------------------------------------------------ */

static void usage_errors(void **state)
{
	static const struct {
		const char *arguments, *message;
	} cases[] = {
		{"", "which command"},
		{"wolk", "wolk: no such command"},
		{"--json", "options come after the command"},
		{"walk", "--memory FILE[@GPA] is missing"},
		{"walk -m s.img 0", "--iommu is missing"},
		{"walk -m s.img " SS, "no IOVA"},
		{"walk -m s.img " SS "--range all 0", "exclude each other"},
		{"walk -m s.img " SS "--budget 5 0", "--budget limits --range"},
		{"walk -m s.img " SS "fee00000", "IOVA fee00000"},
		{"walk -m s.img " SS "0x", "IOVA 0x:"},
		{"walk -m s.img " SS "0x10000000000000000", "IOVA 0x10000000000000000"},
		{"walk -m s.img " SS "99999999999999999999", "IOVA 9999"},
		{"walk -m s.img " SS "16E", "IOVA 16E"},
		{"walk -m s.img " SS "-- -1", "IOVA -1"},
		{"walk -m s.img " SS "''", "IOVA :"},
		{"walk -m s.img " SS "--range 5-4", "--range 5-4"},
		{"walk -m s.img " SS "--range 5+0", "--range 5+0"},
		{"walk -m s.img " SS "--range 5", "--range 5"},
		{"walk -m s.img " SS "--access z 0", "--access z"},
		{"walk -m s.img " SS "--access rr 0", "--access rr"},
		{"walk -m s.img " SS "--color blue 0", "--color blue"},
		{"walk -m s.img " SS "--rid 0 0", "--rid needs --iommu"},
		{"walk -m s.img " SS "--rtaddr 0 0", "--rtaddr needs --iommu"},
		{"walk -m s.img " SS "--stage format=vtd-ss,root=0 0",
	         "--format describes the only"},
		{"walk -m s.img --iommu via --rid 0 0", "--iommu via"},
		{"walk -m s.img --iommu vtd --rid 0 0", "needs --rtaddr"},
		{"walk -m s.img --iommu vtd --rtaddr 0 0", "needs --rid"},
		{"walk -m s.img --iommu vtd --rtaddr 0 --ddtp 0 --rid 0 0",
	         "--ddtp is a register of"},
		{"walk -m s.img --iommu vtd --rtaddr 0 --haw 5G --rid 0 0", "--haw 5G"},
		{"walk -m s.img --iommu vtd --rtaddr 0 --rid 0:20.0 0", "--rid 0:20.0"},
		{"walk -m s.img --iommu vtd --rtaddr 0 --rid 0:1.8 0", "--rid 0:1.8"},
		{"walk -m s.img --iommu vtd --rtaddr 0 --rid 100:1.0 0", "--rid 100:1.0"},
		{"walk -m s.img --iommu vtd --rtaddr 0 --rid 0x10000 0", "impossible"},
		{"walk -m s.img --iommu vtd --rtaddr 0 --rid 0 --pasid 1M 0", "--pasid 1M"},
		{"walk -m s.img --iommu vtd --rtaddr 0 --rid 0 --request no 0", "--request no"},
		{"walk -m s.img --iommu vtd --rtaddr 0 --rid 0 --root 0 0", "--root does not go"},
		{"walk -m s.img --root 0 0", "the format is missing"},
		{"walk -m s.img --format vtd-ss 0", "the root is missing"},
		{"walk -m s.img --format vtd-ss --root 0 0", "3, 4 or 5 levels"},
		{"walk -m s.img --format vtd-ss --root 0 --levels 400 0", "levels 400"},
		{"walk -m s.img --format ext4 --root 0 0", "ext4 is not a page-table format"},
		{"walk -m s.img --format vtd-ss --root 0 --flags fast 0", "fast is not a flag"},
		{"walk -m s.img --format vtd-ss --root 0 --flags x4 0", "x4 is not a flag of"},
		{"walk -m s.img --format arm-s1 --root 0 --granule 8K 0", "granule 8K"},
		{"walk -m s.img --stage format=vtd-ss,roto=1 0", "'roto' is not a parameter"},
		{"walk -m s.img --stage format=vtd-ss,root 0", "root needs a value"},
		{"walk -m s.img --stage root=1,root=2,format=vtd-ss 0", "given twice"},
		{"walk -m s.img --stage , 0", "'' is not a parameter"},
		{"walk -m s.img --frobnicate 0", "--frobnicate: no such option"},
		{"walk -m s.img --json=5 0", "takes no value"},
		{"walk -m s.img -z 0", "-z: no such option"},
		{"walk -m", "-m needs a value"},
		{"walk --stage", "--stage needs a value"},
		{"walk -m none.img " SS "0", "none.img: No such file"},
		{"walk -m . " SS "0", "not a regular file"},
		{"walk -m s.img@1 " SS "0", "not a multiple of 4096"},
		{"walk -m s.img@x " SS "0", "the part behind @"},
		{"walk -m @0 " SS "0", "FILE or FILE@GPA"},
		{"walk -m s.img@8P " SS "0", "beyond 2^52"},
		{"walk -m s.img -m s.img@4K " SS "0", "overlaps"},
		{"walk -m empty.img " SS "0", "the file is empty"},
		{"sample", "FILE is missing"},
		{"sample a b", "one FILE"},
		{"sample no/such/dir", "No such file"},
	};
	struct fixture *f = *state;

	write_file(f, "empty.img", "", 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		run(f, "%s", cases[i].arguments);
		ends(f, 2);
		says(f, cases[i].message);
		says(f, "snest");
	}
}

static void too_many(void **state)
{
	struct fixture *f = *state;
	char arguments[1024] = "walk -m s.img 0";

	for (unsigned i = 0; i < 7; i++)
		strcat(arguments, " --stage format=vtd-ss,levels=4,root=0");
	run(f, "%s", arguments);
	ends(f, 2);
	says(f, "at most 6 stages");
}

static void help_and_version(void **state)
{
	struct fixture *f = *state;

	run(f, "--help");
	ends(f, 0);
	says(f, "  walk ");
	run(f, "walk --help");
	ends(f, 0);
	says(f, "Examples:");
	says(f, "--rtaddr");
	says(f, "vtd-ss");
	run(f, "help walk");
	ends(f, 0);
	says(f, "Examples:");
	run(f, "sample -h");
	ends(f, 0);
	run(f, "--version");
	ends(f, 0);
}

static void lost_output_is_an_error(void **state)
{
	struct fixture *f = *state;

	if (access("/dev/full", W_OK))
		skip();
	run(f, "walk -m s.img " SS "0 >/dev/full");
	ends(f, 2);
	says(f, "standard output");
}

static void colours(void **state)
{
	struct fixture *f = *state;

	run(f, "walk -m s.img " SS "0");
	says_not(f, "\033[");
	run(f, "walk --color always -m s.img " SS "0");
	says(f, "\033[");
	run(f, "walk --color never -m s.img " SS "0");
	says_not(f, "\033[");
}

/* The image stays as it is, whatever the tables' accessed flags. */
static void image_is_not_written(void **state)
{
	struct fixture *f = *state;
	char command[256];

	snprintf(command, sizeof(command), "cp '%s/s.img' '%s/before.img'", f->dir, f->dir);
	assert_int_equal(system(command), 0);
	run(f, "walk -q -m s.img " SCALABLE "--pasid 2 -a w 0x3456 0x203456");
	ends(f, 0);
	run(f, "walk -q -m s.img --format vtd-ss --root 0x110000 --levels 4 --flags hw-a+hw-d "
	       "-a rw 0x1000");
	ends(f, 0);
	snprintf(command, sizeof(command), "cmp '%s/s.img' '%s/before.img'", f->dir, f->dir);
	assert_int_equal(system(command), 0);
}

/* ---- Any bytes ------------------------------------------------------------- */

static void any_bytes_are_survived(void **state)
{
	static const char *const sources[] = {
		"--format x86-64 --levels 4 --root 0",
		"--format vtd-ss --levels 5 --root 0x1000",
		"--format amd-v1 --levels 6 --root 0",
		"--format arm-s1 --granule 64K --ia-bits 48 --root 0",
		"--format arm-s2 --granule 4K --ia-bits 40 --levels 3 --root 0",
		"--format riscv32 --levels 2 --flags x4 --root 0",
		"--format riscv64 --levels 5 --root 0",
		("--stage format=x86-64,levels=5,root=0 --stage format=amd-v1,levels=6,root=0x1000 "
	         "--stage format=riscv64,levels=3,root=0"),
		"--iommu vtd --rtaddr 0 --rid 1",
		"--iommu vtd --rtaddr 0x400 --rid 1 --pasid 3",
		"--iommu amd --device-table 0 --rid 1 --pasid 1",
		"--iommu smmu --strtab-base 0 --strtab-base-cfg 8 --rid 1",
		"--iommu riscv --ddtp 0x402 --rid 1",
	};
	struct fixture *f = *state;
	uint64_t words[2048], x = 0x9e3779b97f4a7c15;

	for (unsigned round = 0; round < 3; round++) {
		for (size_t i = 0; i < 2048; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			/* Round 1 keeps addresses small, so that tables lead on. */
			words[i] = round == 0 ? x : round == 1 ? x & 0x3fff : UINT64_MAX;
		}
		write_file(f, "any.img", words, sizeof(words));
		for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
			run(f, "walk --json -m any.img %s 0 0x1234567 0xffffffffffffffff",
			    sources[i]);
			assert_in_range(f->status, 0, 1);
			is_json(f);
			run(f, "walk -m any.img %s --range all --budget 4000 >/dev/null",
			    sources[i]);
			assert_true(f->status == 0 || f->status == 1 || f->status == 3);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(page_sizes),
		cmocka_unit_test(entries_on_the_way),
		cmocka_unit_test(target_in_and_out_of_images),
		cmocka_unit_test(image_at_a_base),
		cmocka_unit_test(faults),
		cmocka_unit_test(one_fault_of_several_addresses),
		cmocka_unit_test(access_kinds),
		cmocka_unit_test(contexts),
		cmocka_unit_test(other_iommus),
		cmocka_unit_test(nested),
		cmocka_unit_test(three_stages),
		cmocka_unit_test(list_agrees_with_walks),
		cmocka_unit_test(list_of_a_part),
		cmocka_unit_test(list_of_a_broken_context),
		cmocka_unit_test(hostile_table_ends_at_the_budget),
		cmocka_unit_test(stopped_list_goes_on_where_it_says),
		cmocka_unit_test(json_of_walks),
		cmocka_unit_test(json_of_lists),
		cmocka_unit_test(json_escapes_names),
		cmocka_unit_test(usage_errors),
		cmocka_unit_test(too_many),
		cmocka_unit_test(help_and_version),
		cmocka_unit_test(lost_output_is_an_error),
		cmocka_unit_test(colours),
		cmocka_unit_test(image_is_not_written),
		cmocka_unit_test(any_bytes_are_survived),
	};

	if (!getenv("SNEST_COMMAND")) {
		fputs("SNEST_COMMAND is not set\n", stderr);
		return 77;
	}
	return cmocka_run_group_tests(tests, setup, fixture_teardown);
}
