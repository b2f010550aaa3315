/* SPDX-License-Identifier: MIT */
/*
 * `snest difffuzz` as a user meets it: walkers that are right, wrong and broken,
 * what is found and how small it is made, messages, exit status. The plug-ins are
 * those of tests/walkers and examples; SNEST_WALKER_<NAME> are their paths.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/command.h"

static const char *const formats[] = {
	"x86-64", "vtd-ss", "amd-v1", "amd-v2", "arm-s1", "arm-s2", "riscv32", "riscv64",
};

/* Path of a plug-in. */
static const char *walker(const char *name)
{
	char variable[64];
	const char *path;

	snprintf(variable, sizeof(variable), "SNEST_WALKER_%s", name);
	path = getenv(variable);
	if (!path)
		fail_msg("%s is not set", variable);
	return path;
}

/* Runs the broken plug-in, broken in this way. */
static void run_broken(struct fixture *f, const char *how, const char *arguments)
{
	setenv("BROKEN", how, 1);
	run(f, "difffuzz -q -w '%s' %s", walker("BROKEN"), arguments);
	unsetenv("BROKEN");
}

/* The number in front of which `text` stands in the output. */
static unsigned long number_behind(const struct fixture *f, const char *text)
{
	const char *at = strstr(f->output, text);

	if (!at)
		fail_msg("'%s' is not in:\n%s", text, f->output);
	return strtoul(at + strlen(text), NULL, 0);
}

/* ---- Walkers that are right --------------------------------------------------- */

static void reference_walker_agrees(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		run(f, "difffuzz -q -w '%s' --format %s --count 5000", walker("REF"), formats[i]);
		says(f, "0 differences in 5000 cases: 80000 questions, 80000 compared");
		ends(f, 0);
	}
}

static void right_example_agrees(void **state)
{
	struct fixture *f = *state;

	run(f, "difffuzz -q -w '%s' --format x86-64 --count 4000 --seed 3", walker("WRONG0"));
	says(f, "0 differences");
	ends(f, 0);
	run(f, "difffuzz -q -w '%s' --format amd-v2 --count 2000", walker("WRONG0"));
	ends(f, 0);
}

static void kvm_agrees(void **state)
{
	struct fixture *f = *state;

	run(f, "difffuzz -q -v -w '%s' --count 3000", walker("KVM"));
	if (f->status == 2 && strstr(f->output, "KVM is not usable")) {
		print_message("skipped: %s", f->output);
		skip();
	}
	says(f, "0 differences in 3000 cases");
	ends(f, 0);
	print_message("%s", f->output);
}

/* ---- Walkers that are wrong --------------------------------------------------- */

/* Found within a time that a test can take, whatever the seed; and made small. */
static void mistakes_are_found_and_made_small(void **state)
{
	static const struct {
		const char *walker, *class;
		unsigned words; /* at most: entries that the mistake needs */
	} mistakes[] = {
		{"WRONG1", "difference 1: missed-fault:write", 5},
		{"WRONG2", "difference 1: missed-fault:reserved", 5},
		{"WRONG3", "difference 1: missed-fault:reserved", 5},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
		for (unsigned seed = 1; seed <= 5; seed++) {
			run(f,
			    "difffuzz -q -w '%s' --format x86-64 --seed %u --count 100000 "
			    "--ignore rights",
			    walker(mistakes[i].walker), seed);
			ends(f, 1);
			says(f, mistakes[i].class);
			assert_in_range(number_behind(f, "words of memory became"), 1,
			                mistakes[i].words);
			/* The address has nothing in it that is not needed. */
			says(f, "IOVA 0x0,");
		}
	}
}

static void difference_is_a_decoded_walk(void **state)
{
	struct fixture *f = *state;

	run(f, "difffuzz -q -w '%s' --format x86-64 --levels 4 --flags wp+nx --ignore rights",
	    walker("WRONG1"));
	ends(f, 1);
	says(f, "stage 0: x86-64, root ");
	says(f, "4 levels, wp, nx");
	says(f, "write");
	says(f, "stage 0 PML4E");
	says(f, "fault: no right to write");
	says(f, "refused by stage 0");
	says(f, "  wrong: GPA ");
	says(f, "wrong: 1 stage, 1 difference");
}

/* What is saved is what snest walk then shows, by the command that is printed. */
static void saved_image_shows_the_same_fault(void **state)
{
	struct fixture *f = *state;
	char *line, *end, *fault;

	run(f, "difffuzz -q -w '%s' --format x86-64 --save 'a b@1.img'", walker("WRONG2"));
	ends(f, 1);
	fault = strstr(f->output, "  fault: ");
	line = strstr(f->output, "  walk:   ");
	assert_non_null(fault);
	assert_non_null(line);
	/* The command begins with the program, which run() puts in front itself. */
	line = strstr(line, " walk -m ");
	end = strchr(line, '\n');
	assert_non_null(end);
	*end = '\0';
	line = strdup(line);
	end = strstr(fault, "\n  wrong:");
	assert_non_null(end);
	*end = '\0';
	fault = strdup(fault);
	assert_non_null(line);
	assert_non_null(fault);
	run(f, "%s", line);
	ends(f, 1);
	says(f, fault);
	free(line);
	free(fault);
}

/* The case alone is enough to find it again. */
static void printed_command_finds_it_again(void **state)
{
	struct fixture *f = *state;
	unsigned long number;
	char *first;

	run(f, "difffuzz -q -w '%s' --format x86-64 --seed 77", walker("WRONG1"));
	ends(f, 1);
	number = number_behind(f, "  case ");
	says(f, "--seed 77 --first ");
	first = strdup(strstr(f->output, "IOVA "));
	assert_non_null(first);
	*strstr(first, "wrong: 7 stages") = '\0';
	run(f, "difffuzz -q -w '%s' --format x86-64 --seed 77 --first %lu --count 1",
	    walker("WRONG1"), number);
	ends(f, 1);
	says(f, first);
	free(first);
}

static void same_seed_same_output(void **state)
{
	struct fixture *f = *state;
	const char *arguments = "--format x86-64 --count 3000 --differences 0";
	char *first;

	run(f, "difffuzz -q -w '%s' %s --seed 5", walker("WRONG1"), arguments);
	ends(f, 1);
	first = strdup(f->output);
	assert_non_null(first);
	run(f, "difffuzz -q -w '%s' %s --seed 5", walker("WRONG1"), arguments);
	assert_string_equal(f->output, first);
	run(f, "difffuzz -q -w '%s' %s --seed 6", walker("WRONG1"), arguments);
	assert_string_not_equal(f->output, first);
	free(first);
}

static void classes_can_be_ignored(void **state)
{
	struct fixture *f = *state;

	run(f,
	    "difffuzz -q -w '%s' --format x86-64 --count 3000 --ignore missed-fault:write "
	    "--ignore rights",
	    walker("WRONG1"));
	ends(f, 0);
	says(f, "0 differences in 3000 cases");
	says(f, "more differences not looked at");
	/* Without the reason: of any reason. The rights that it reports are wrong too. */
	run(f, "difffuzz -q -w '%s' --format x86-64 --count 30000 --ignore missed-fault",
	    walker("WRONG1"));
	ends(f, 1);
	says(f, "difference 1: rights: ");
}

static void goes_on_past_the_first(void **state)
{
	struct fixture *f = *state;

	run(f, "difffuzz -q -w '%s' --format x86-64 --differences 2 --save d.img",
	    walker("WRONG1"));
	ends(f, 1);
	says(f, "difference 1: ");
	says(f, "difference 2: ");
	says(f, "missed-fault:write");
	says(f, "rights");
	says(f, "d.img.2");
	says(f, "2 differences in");
}

static void json(void **state)
{
	struct fixture *f = *state;

	run(f, "difffuzz -q --json -w '%s' --format x86-64 --save j.img --differences 2",
	    walker("WRONG1"));
	ends(f, 1);
	is_json(f);
	says(f, "\"class\": \"missed-fault:write\"");
	says(f, "\"steady\": true");
	says(f, "\"outcome\": \"fault\"");
	says(f, "\"image\": \"j.img\"");
	run(f, "difffuzz -q --json -w '%s' --format x86-64 --count 100", walker("WRONG0"));
	ends(f, 0);
	is_json(f);
	says(f, "\"cases\": 100");
	setenv("BROKEN", "crash", 1);
	run(f, "difffuzz -q --json -w '%s' --seconds 60 2>/dev/null", walker("BROKEN"));
	unsetenv("BROKEN");
	ends(f, 1);
	is_json(f);
	says(f, "\"class\": \"crash\"");
}

/* ---- Walkers that are broken -------------------------------------------------- */

/* Down to the one entry that it needs: bits 0 and 9. */
static void only_the_entry(const struct fixture *f)
{
	says(f, "words of memory became 1\n");
	says(f, ": 0x0000000000000201\n");
	says(f, "IOVA 0x0, read");
	ends(f, 1);
}

static void crash_is_a_difference(void **state)
{
	struct fixture *f = *state;

	run_broken(f, "crash", "--count 100000");
	says(f, "difference 1: crash: it crashes");
	says(f, "in translate");
	only_the_entry(f);
	run_broken(f, "exit", "--count 100000");
	says(f, "difference 1: crash: it crashes");
	says(f, "ended its process");
	only_the_entry(f);
}

static void hang_is_a_difference(void **state)
{
	struct fixture *f = *state;

	run_broken(f, "hang", "--count 100000 --timeout 200");
	says(f, "difference 1: hang: it does not answer");
	says(f, "no answer in 200 ms, in translate");
	only_the_entry(f);
}

static void errors_are_differences(void **state)
{
	struct fixture *f = *state;

	run_broken(f, "error", "--count 100000");
	says(f, "difference 1: error");
	only_the_entry(f);
	run_broken(f, "outcome", "--count 100000");
	says(f, "difference 1: error");
	only_the_entry(f);
	run_broken(f, "begin", "--count 10");
	says(f, "difference 1: error");
	ends(f, 1);
}

/* It claims to set accessed flags, and does not. */
static void memory_is_compared(void **state)
{
	struct fixture *f = *state;

	run_broken(f, "updates", "--count 1000 --levels 4 --flags hw-a");
	says(f, "difference 1: memory: it leaves other accessed or dirty flags in memory");
	says(f, "  memory at 0x");
	says(f, "afterwards: snest 0x");
	ends(f, 1);
	/* Where nobody sets them, there is nothing to differ. */
	run_broken(f, "updates", "--count 1000 --levels 4");
	ends(f, 0);
}

/* After a crash that is not looked at, the next case is asked in a new process. */
static void goes_on_after_crashes(void **state)
{
	struct fixture *f = *state;

	run_broken(f, "crash", "--count 600 --ignore crash");
	says(f, "0 differences in 600 cases");
	says(f, "more differences not looked at");
	ends(f, 0);
}

static void walker_that_remembers_is_named(void **state)
{
	struct fixture *f = *state;

	run_broken(f, "stale", "--count 100000");
	says(f, "asked alone, it does not differ: the walker remembers something");
	ends(f, 1);
}

static void nothing_wrong_with_the_broken_walker_by_itself(void **state)
{
	struct fixture *f = *state;

	run_broken(f, "", "--count 500");
	says(f, "0 compared");
	ends(f, 0);
}

/* ---- Plug-ins that cannot be used --------------------------------------------- */

static void unusable_plugins(void **state)
{
	static const struct {
		const char *how, *message;
	} cases[] = {
		{"null", "it says that it cannot be used here"},
		{"version", "it is made for version 2 of snest/walker.h, this is version 1"},
		{"size", "it is made for version"},
		{"function", "open, begin or translate is missing"},
		{"formats", "it declares no format"},
		{"accesses", "it declares no kind of access"},
		{"memory", "memory_bits is less than 20"},
		{"load", "in being loaded"},
		{"open", "cannot open x86-64 4 levels: no key for the engine"},
		{"open-crash", "in open"},
		{"nothing", "it has no stage of x86-64: it has no such tables"},
		{"flags", "it changed the flags of x86-64 4 levels"},
		{"two-formats", "which format? --format is missing; the walker has:\n  x86-64\n"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		run_broken(f, cases[i].how, "--count 10");
		says(f, cases[i].message);
		ends(f, 2);
	}
}

static void files_that_are_no_plugins(void **state)
{
	struct fixture *f = *state;

	run(f, "difffuzz -w nowhere.so --count 1");
	says(f, "--walker nowhere.so: ./nowhere.so: cannot open shared object file");
	ends(f, 2);
	write_file(f, "text.so", "not a library\n", 14);
	run(f, "difffuzz -w text.so --count 1");
	says(f, "--walker text.so: ");
	ends(f, 2);
	run(f, "difffuzz -w libc.so.6 --count 1");
	says(f, "cannot open shared object file");
	ends(f, 2);
	/* A library, but no plug-in. */
	run(f,
	    "difffuzz -w \"$(ldd '%s' | sed -n 's/.*=> \\(.*libc\\.so[^ ]*\\) .*/\\1/p')\" "
	    "--count 1",
	    getenv("SNEST_COMMAND"));
	says(f, "it does not export snest_walker_get");
	ends(f, 2);
}

static void output_of_a_plugin_is_apart(void **state)
{
	struct fixture *f = *state;

	setenv("BROKEN", "print", 1);
	run(f, "difffuzz -q --json -w '%s' --count 10 2>/dev/null", walker("BROKEN"));
	unsetenv("BROKEN");
	ends(f, 0);
	is_json(f);
	says_not(f, "hello");
}

/* ---- The command line --------------------------------------------------------- */

static void wrong_arguments(void **state)
{
	static const struct {
		const char *arguments, *message;
	} cases[] = {
		{"", "which walker? --walker FILE is missing"},
		{"-w", "-w needs a value"},
		{"-w $W --format sv39", "--format sv39: the walker has no such format; it has:"},
		{"-w $W --format vtd-ss", "--format vtd-ss: the walker has no such format"},
		{"-w $W --format x86-64 --levels 7", "an x86-64 table has 4 or 5 levels"},
		{"-w $W --format x86-64 --levels 4 --flags ds", "ds is not a flag of"},
		{"-w $W --root 0x1000", "no such option"},
		{"-w $W --seconds soon", "--seconds soon: "},
		{"-w $W --count -1", "--count -1: "},
		{"-w $W --seed", "--seed needs a value"},
		{"-w $W --timeout 0", "--timeout 0: the walker needs some time"},
		{"-w $W --ignore bugs", "--ignore bugs: no such class"},
		{"-w $W --ignore missed-fault:luck", "no such class"},
		{"-w $W extra", "extra: what is that?"},
		{"-w $W --color blue", "--color blue: "},
		{"-w $W --format x86-64 --save nowhere/d.img", "--save nowhere/d.img: "},
	};
	struct fixture *f = *state;

	setenv("W", walker("WRONG1"), 1);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		run(f, "difffuzz %s", cases[i].arguments);
		says(f, "snest difffuzz: ");
		says(f, cases[i].message);
		ends(f, 2);
	}
}

static void help(void **state)
{
	struct fixture *f = *state;

	run(f, "difffuzz --help");
	says(f, "Usage: snest difffuzz");
	says(f, "Exit status:");
	ends(f, 0);
	run(f, "--help");
	says(f, "difffuzz");
}

static void time_ends_it(void **state)
{
	struct fixture *f = *state;

	run(f, "difffuzz -w '%s' --format x86-64 --seconds 1", walker("WRONG0"));
	says(f, "0 differences in ");
	says(f, "questions a second");
	ends(f, 0);
}

static int setup(void **state)
{
	*state = fixture_create();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reference_walker_agrees),
		cmocka_unit_test(right_example_agrees),
		cmocka_unit_test(kvm_agrees),
		cmocka_unit_test(mistakes_are_found_and_made_small),
		cmocka_unit_test(difference_is_a_decoded_walk),
		cmocka_unit_test(saved_image_shows_the_same_fault),
		cmocka_unit_test(printed_command_finds_it_again),
		cmocka_unit_test(same_seed_same_output),
		cmocka_unit_test(classes_can_be_ignored),
		cmocka_unit_test(goes_on_past_the_first),
		cmocka_unit_test(json),
		cmocka_unit_test(crash_is_a_difference),
		cmocka_unit_test(hang_is_a_difference),
		cmocka_unit_test(errors_are_differences),
		cmocka_unit_test(memory_is_compared),
		cmocka_unit_test(goes_on_after_crashes),
		cmocka_unit_test(walker_that_remembers_is_named),
		cmocka_unit_test(nothing_wrong_with_the_broken_walker_by_itself),
		cmocka_unit_test(unusable_plugins),
		cmocka_unit_test(files_that_are_no_plugins),
		cmocka_unit_test(output_of_a_plugin_is_apart),
		cmocka_unit_test(wrong_arguments),
		cmocka_unit_test(help),
		cmocka_unit_test(time_ends_it),
	};

	if (!getenv("SNEST_COMMAND")) {
		fputs("SNEST_COMMAND is not set\n", stderr);
		return 77;
	}
	return cmocka_run_group_tests_name("difffuzz", tests, setup, fixture_teardown);
}
