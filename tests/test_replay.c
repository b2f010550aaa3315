/* SPDX-License-Identifier: MIT */
/*
 * `snest replay` as a user meets it: what it finds in traces that were tampered
 * with, what it says about bad ones, that it goes on in another process, and
 * that its picture is one. Runs the program named by SNEST_COMMAND in the source
 * folder. That good traces replay without a fault in every mode is tested by
 * running the command itself (suite "replay").
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "support/command.h"

#define LAZY "tests/traces/vtd-legacy-lazy.snt.gz"
#define MIRRORED "tests/traces/vtd-legacy-cm.snt.gz"

/* Runs `snest replay` + arguments, in which every @ stands for the temporary folder. */
__attribute__((format(printf, 2, 3))) static void replay(struct fixture *f, const char *format, ...)
{
	char arguments[512], command[2048];
	va_list args;
	size_t n;

	va_start(args, format);
	vsnprintf(arguments, sizeof(arguments), format, args);
	va_end(args);
	n = (size_t)snprintf(command, sizeof(command), "exec 2>&1 '%s' replay ",
	                     getenv("SNEST_COMMAND"));
	for (const char *s = arguments; *s && n < sizeof(command) - 80; s++) {
		if (*s == '@')
			n += (size_t)snprintf(command + n, sizeof(command) - n, "%s", f->dir);
		else
			command[n++] = *s;
	}
	command[n] = '\0';
	run_shell(f, command);
}

/* Writes a trace to @/name: the one in `file` through a sed script. */
static void edit(struct fixture *f, const char *file, const char *script, const char *name)
{
	char command[1024];

	snprintf(command, sizeof(command), "gzip -dc '%s' | sed '%s' >'%s/%s'", file, script,
	         f->dir, name);
	run_shell(f, command);
	assert_int_equal(f->status, 0);
}

static void write_trace(struct fixture *f, const char *name, const char *text)
{
	write_file(f, name, text, strlen(text));
}

/* The number behind the first "key": that follows the object called `object`. */
static uint64_t json(const struct fixture *f, const char *object, const char *key)
{
	char quoted[64];
	const char *at;

	snprintf(quoted, sizeof(quoted), "\"%s\": {", object);
	at = strstr(f->output, quoted);
	if (at) {
		snprintf(quoted, sizeof(quoted), "\"%s\": ", key);
		at = strstr(at, quoted);
	}
	if (!at)
		fail_msg("no %s.%s in:\n%s", object, key, f->output);
	return strtoull(at + strlen(quoted), NULL, 10);
}

static int setup(void **state)
{
	*state = fixture_create();
	return 0;
}

/* ---- Reports ---------------------------------------------------------------- */

static void json_accounts_for_every_translation(void **state)
{
	struct fixture *f = *state;

	replay(f, "--json " LAZY);
	ends(f, 0);
	/* How many X lines there are was counted with grep. */
	assert_int_equal(json(f, "events", "translations"), 28464);
	assert_int_equal(json(f, "translations", "checked"), 28464);
	assert_int_equal(json(f, "translations", "agreed") +
	                         json(f, "translations", "stale_legal") +
	                         json(f, "translations", "wrong"),
	                 28464);
	assert_int_equal(json(f, "total", "checked"), 28464);
	assert_true(json(f, "doorbells", "p50_ns") <= json(f, "doorbells", "p99_ns"));
	assert_true(json(f, "doorbells", "p99_ns") <= json(f, "doorbells", "max_ns"));
}

static void several_traces_end_in_one_line(void **state)
{
	struct fixture *f = *state;

	replay(f, LAZY " " LAZY);
	ends(f, 0);
	says(f, "2 recorded guests: 56928 translations checked, 56928 agreed, 0 stale but legal, "
	        "0 wrong\n");
}

/* ---- Finding what is wrong -------------------------------------------------- */

static void another_address_is_wrong(void **state)
{
	struct fixture *f = *state;

	edit(f, LAZY, "7139s/ok d39c000/ok d39d000/", "t");
	replay(f, "@/t");
	ends(f, 1);
	says(f, "1 wrong");
	says(f, "t:7139: 00:03.0 writes IOVA 0xffdd6000: recorded answer against a fresh walk");
	says(f, "expected  0xd39d000 rw-");
	says(f, "got       0xd39c000 rw-");
	says(f, "leaf 4K -> 0xd39c000");
}

static void other_rights_are_wrong(void **state)
{
	struct fixture *f = *state;

	edit(f, LAZY, "7139s/ rw$/ w/", "t");
	replay(f, "@/t");
	ends(f, 1);
	says(f, "expected  0xd39c000 -w-");
}

static void another_size_is_wrong(void **state)
{
	struct fixture *f = *state;

	edit(f, LAZY, "7139s/ fff / 1fff /", "t");
	replay(f, "@/t");
	ends(f, 1);
	says(f, "expected  0xd39c000 rw- 8 KiB");
}

static void a_fault_that_is_none_is_wrong(void **state)
{
	struct fixture *f = *state;

	edit(f, LAZY, "7139s/ok.*/fault 5/", "t");
	replay(f, "@/t");
	ends(f, 1);
	says(f, "expected  fault 0x5");
}

/* A descriptor of a reserved type stops the queue: the guest's commands are not executed. */
static void a_queue_that_stopped_is_wrong(void **state)
{
	struct fixture *f = *state;

	edit(f, LAZY, "/^W 11e64c0 /s/e2/ef/", "t");
	replay(f, "@/t");
	ends(f, 1);
	says(f, "commands that the front end did not");
}

/*
 * One present entry of a live table changes without a word from the guest, in
 * the last third of its life; nobody uses the address.
 */
static void a_mirror_misses_what_is_never_announced(void **state)
{
	struct fixture *f = *state;

	edit(f, MIRRORED, "154276a W 1ff3d008 1000003", "t");
	replay(f, "--mirror @/t");
	ends(f, 1);
	says(f, "01:00.0 IOVA 0xffe01000-0xffe01fff: mirror, long after the change");
	says(f, "tables    0x1000000 rw-");
	says(f, "mirror    nothing");
	/* Without a mirror nobody can tell. */
	replay(f, "@/t");
	ends(f, 0);
}

static void silent_guests_have_no_mirror(void **state)
{
	static const char *const traces[] = {LAZY, "tests/traces/vtd-scalable-fs.snt.gz"};
	struct fixture *f = *state;

	for (unsigned i = 0; i < 2; i++) {
		replay(f, "--mirror %s", traces[i]);
		ends(f, 2);
		says(f, "does not announce what it maps for device 00:03.0");
		says(f, traces[i]);
		replay(f, "--json --mirror=auto %s", traces[i]);
		ends(f, 0);
		assert_int_equal(json(f, "mirrors", "comparisons"), 0);
	}
}

static void readers_judge_what_they_get(void **state)
{
	struct fixture *f = *state;

	replay(f, "--json --threads 2 " LAZY);
	ends(f, 0);
	assert_true(json(f, "readers", "judged") > 1000);
	assert_true(json(f, "readers", "judged") <= json(f, "readers", "lookups"));
	assert_int_equal(json(f, "readers", "wrong"), 0);
}

/* ---- Bad traces ------------------------------------------------------------- */

#define HEAD "snest-trace 1\nI vtd ver=10 cap=80d2008c222f0686 ecap=f00f4a\nM 0 100000\n"

static void bad_traces_are_named_with_their_line(void **state)
{
	static const struct {
		const char *text, *message;
	} bad[] = {
		{"", "/t:1: "},
		{"\x7f"
	         "ELF garbage\n",
	         "/t:1: "},
		{"snest-trace 2\n", "/t:1: "},
		{"snest-trace 1\n", "/t:2: "},
		{"snest-trace 1\nI vax\n", "/t:2: "},
		{HEAD "Z 1 2 3\n", "/t:4: "},
		{HEAD "W 1 2\n", "/t:4: "},
		{HEAD "R 18 3 0\n", "/t:4: "},
		{HEAD "W 0 1\nX 18 - 1000 r ok 1000 fff\n", "/t:5: "},
		{HEAD "W 0 1\nM 200000 1000\n", "/t:5: "},
		{HEAD "W 0 1\n# the end is missi", "/t:5: "},
		{HEAD "M 0 1000\n", "/t:4: "},
	};
	struct fixture *f = *state;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		write_trace(f, "t", bad[i].text);
		replay(f, "@/t");
		ends(f, 2);
		says(f, bad[i].message);
	}
}

static void a_cut_off_file_is_told_from_a_short_trace(void **state)
{
	struct fixture *f = *state;
	char command[256];

	snprintf(command, sizeof(command), "head -c 100000 " LAZY " >'%s/t.gz'", f->dir);
	run_shell(f, command);
	replay(f, "@/t.gz");
	ends(f, 2);
	says(f, "the compressed file is cut off");
	says(f, "/t.gz:");
	/* The recorder cuts between lines, and says so; that is a good trace. */
	edit(f, LAZY, "20001,$d", "t");
	replay(f, "@/t");
	ends(f, 0);
}

static void damage_within_a_compressed_file_is_found(void **state)
{
	struct fixture *f = *state;
	char command[512];

	snprintf(command, sizeof(command),
	         "cp " LAZY " '%s/t.gz' && printf garbagegarbage | "
	         "dd of='%s/t.gz' bs=1 seek=120000 conv=notrunc 2>&1",
	         f->dir, f->dir);
	run_shell(f, command);
	replay(f, "@/t.gz");
	ends(f, 2);
	says(f, "/t.gz:");
}

static void other_iommus_and_units_are_refused(void **state)
{
	struct fixture *f = *state;

	write_trace(f, "t", "snest-trace 1\nI riscv caps=0 fctl=0 dc_len=64\nW 0 1\n");
	replay(f, "@/t");
	ends(f, 2);
	says(f, "only traces of VT-d guests");
	write_trace(f, "t", "snest-trace 1\nI vtd ver=10 cap=0 ecap=0\nM 0 1000\nW 0 1\n");
	replay(f, "@/t");
	ends(f, 2);
	says(f, "cannot be emulated");
}

static void one_bad_trace_does_not_hide_behind_a_good_one(void **state)
{
	struct fixture *f = *state;

	replay(f, "@/none " LAZY);
	ends(f, 2);
	says(f, "28464 translations checked");
}

static void arguments_are_checked(void **state)
{
	static const char *const bad[] = {
		"",
		"--threads",
		"--threads 1000 " LAZY,
		"--threads x " LAZY,
		"--fill eager " LAZY,
		"--mirror=never " LAZY,
		"--save-at",
		"--save-at 5",
		"--save-at x y " LAZY,
		"--svg @/p " LAZY " " LAZY,
		"--svg @/p --restore @/s " LAZY,
		"--svg @/none/p " LAZY,
		"--save-at 5 @/none/s " LAZY,
		"--save-at 1000000000 @/s " LAZY,
		"--restore @/none " LAZY,
	};
	struct fixture *f = *state;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		replay(f, "%s", bad[i]);
		ends(f, 2);
		says(f, "snest replay: ");
	}
}

/* ---- Going on in another process -------------------------------------------- */

static void a_replay_goes_on_in_another_process(void **state)
{
	static const struct {
		const char *file, *mode;
		unsigned translations, line[4];
	} cases[] = {
		/* In front of everything; in device set-up; between a tail write and its commands. */
		{LAZY, "", 28464, {5, 346, 21461, 62551}},
		{MIRRORED, "--mirror", 46732, {474, 35707, 154277, 251010}},
		{"tests/traces/vtd-scalable-fs.snt.gz", "", 45397, {1215, 36018, 90813, 135823}},
		{"tests/traces/vtd-scalable-ss-cm.snt.gz",
	         "--mirror",
	         46449,
	         {2, 907, 55555, 173635}},
		{"tests/traces/vtd-legacy-cm-vfio.snt.gz",
	         "--mirror",
	         25571,
	         {118446, 145380, 174604, 179804}},
	};
	struct fixture *f = *state;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (unsigned j = 0; j < 4; j++) {
			replay(f, "--json %s --save-at %u @/s %s", cases[i].mode, cases[i].line[j],
			       cases[i].file);
			ends(f, 0);
			assert_true(json(f, "events", "translations") < cases[i].translations ||
			            cases[i].line[j] == 62551);
			replay(f, "--json %s --restore @/s %s", cases[i].mode, cases[i].file);
			ends(f, 0);
			assert_int_equal(json(f, "translations", "checked"), cases[i].translations);
			assert_int_equal(json(f, "translations", "wrong"), 0);
			assert_int_equal(json(f, "mirrors", "wrong"), 0);
		}
	}
}

static void a_chain_of_processes_sees_one_life(void **state)
{
	struct fixture *f = *state;

	replay(f, "--save-at 10000 @/s0 " LAZY);
	ends(f, 0);
	for (unsigned i = 1; i <= 5; i++) {
		replay(f, "--threads 1 --restore @/s%u --save-at %u @/s%u " LAZY, i - 1,
		       10000 * (i + 1), i);
		ends(f, 0);
	}
	replay(f, "--json --restore @/s5 " LAZY);
	ends(f, 0);
	assert_int_equal(json(f, "translations", "checked"), 28464);
	assert_int_equal(json(f, "translations", "wrong"), 0);
}

static void a_wrong_answer_behind_the_saved_line_is_found(void **state)
{
	struct fixture *f = *state;

	edit(f, LAZY, "7139s/ok d39c000/ok d39d000/", "t");
	replay(f, "--save-at 7000 @/s @/t");
	ends(f, 0);
	replay(f, "--restore @/s @/t");
	ends(f, 1);
	says(f, "t:7139: ");
}

static void saved_files_are_checked(void **state)
{
	struct fixture *f = *state;
	char command[256];

	replay(f, "--save-at 20000 @/s " LAZY);
	ends(f, 0);
	replay(f, "--restore @/s " MIRRORED);
	ends(f, 2);
	says(f, "saved from a replay of another trace");
	snprintf(command, sizeof(command),
	         "printf X | dd of='%s/s' bs=1 seek=5000 conv=notrunc 2>&1", f->dir);
	run_shell(f, command);
	replay(f, "--restore @/s " LAZY);
	ends(f, 2);
	says(f, "damaged");
	snprintf(command, sizeof(command), "head -c 3000 '%s/s' >'%s/c'", f->dir, f->dir);
	run_shell(f, command);
	replay(f, "--restore @/c " LAZY);
	ends(f, 2);
	says(f, "damaged");
	write_trace(f, "e", "");
	replay(f, "--restore @/e " LAZY);
	ends(f, 2);
}

/* ---- The picture ------------------------------------------------------------ */

/* Every element that opens closes, in order; quotes are even within tags. */
static bool well_formed(const char *s)
{
	const char *names[64];
	size_t lengths[64];
	unsigned depth = 0;

	while ((s = strchr(s, '<'))) {
		const char *end = strchr(s, '>');
		unsigned quotes = 0;

		if (!end)
			return false;
		for (const char *c = s; c < end; c++)
			quotes += *c == '"';
		if (quotes % 2)
			return false;
		if (s[1] == '/') {
			if (!depth || strncmp(s + 2, names[depth - 1], lengths[depth - 1]) ||
			    s + 2 + lengths[depth - 1] != end)
				return false;
			depth--;
		} else if (end[-1] != '/') {
			if (depth == 64)
				return false;
			names[depth] = s + 1;
			lengths[depth++] = strcspn(s + 1, " >");
		}
		s = end;
	}
	return depth == 0;
}

static void load(struct fixture *f, const char *name)
{
	char command[128];

	snprintf(command, sizeof(command), "cat '%s/%s'", f->dir, name);
	run_shell(f, command);
	ends(f, 0);
}

static void a_life_is_drawn(void **state)
{
	static const char *const traces[] = {LAZY, "tests/traces/vtd-legacy-cm-vfio.snt.gz"};
	static const char *const phases[] = {">net-stream<", ">vfio-2m-pages-misaligned-iova<"};
	struct fixture *f = *state;

	for (unsigned i = 0; i < 2; i++) {
		replay(f, "--svg @/p.svg %s", traces[i]);
		ends(f, 0);
		load(f, "p.svg");
		assert_int_equal(strncmp(f->output, "<svg ", 5), 0);
		assert_true(well_formed(f->output));
		assert_true(strlen(f->output) < 1000000);
		assert_true(strlen(f->output) > 50000);
		says(f, phases[i]);
		says(f, ">NVMe<");
		says(f, ">may read and write<");
	}
}

static void what_a_guest_writes_is_no_markup(void **state)
{
	struct fixture *f = *state;

	edit(f, LAZY,
	     "s/phase net-ping/phase <script>\\&\"ping/; s/guest kernel/guest kernel ]]><svg/",
	     "t");
	replay(f, "--svg @/p.svg @/t");
	ends(f, 0);
	load(f, "p.svg");
	says(f, "&lt;script&gt;&amp;");
	assert_null(strstr(f->output, "<script"));
	assert_true(well_formed(f->output));
}

static void a_picture_of_nothing_is_one_too(void **state)
{
	struct fixture *f = *state;

	write_trace(f, "t", HEAD "W 0 1\n");
	replay(f, "--svg @/p.svg @/t");
	ends(f, 0);
	load(f, "p.svg");
	assert_true(well_formed(f->output));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(json_accounts_for_every_translation, setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(several_traces_end_in_one_line, setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(another_address_is_wrong, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(other_rights_are_wrong, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(another_size_is_wrong, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(a_fault_that_is_none_is_wrong, setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(a_queue_that_stopped_is_wrong, setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(a_mirror_misses_what_is_never_announced, setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(silent_guests_have_no_mirror, setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(readers_judge_what_they_get, setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(bad_traces_are_named_with_their_line, setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(a_cut_off_file_is_told_from_a_short_trace, setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(damage_within_a_compressed_file_is_found, setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(other_iommus_and_units_are_refused, setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(one_bad_trace_does_not_hide_behind_a_good_one,
	                                        setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(arguments_are_checked, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(a_replay_goes_on_in_another_process, setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(a_chain_of_processes_sees_one_life, setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(a_wrong_answer_behind_the_saved_line_is_found,
	                                        setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(saved_files_are_checked, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(a_life_is_drawn, setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(what_a_guest_writes_is_no_markup, setup,
	                                        fixture_teardown),
		cmocka_unit_test_setup_teardown(a_picture_of_nothing_is_one_too, setup,
	                                        fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
