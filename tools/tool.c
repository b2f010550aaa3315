/* SPDX-License-Identifier: MIT */
/*
 * Messages, colours and units that all subcommands share (tools/tool.h).
 */
#include "tools/tool.h"
#include <errno.h>
#include <getopt.h>
#include <snest/types.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((format(printf, 2, 0))) static void message(const struct sn_tool *tool,
                                                          const char *format, va_list args)
{
	/* What was printed so far belongs in front of the message. */
	fflush(stdout);
	fprintf(stderr, "snest%s%s: ", tool->command ? " " : "",
	        tool->command ? tool->command : "");
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
}

int sn_tool_error(const struct sn_tool *tool, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	message(tool, format, args);
	va_end(args);
	return SN_EXIT_USAGE;
}

int sn_tool_usage(const struct sn_tool *tool, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	message(tool, format, args);
	va_end(args);
	fprintf(stderr, "Try `snest%s%s --help`.\n", tool->command ? " " : "",
	        tool->command ? tool->command : "");
	return SN_EXIT_USAGE;
}

int sn_tool_bad_option(const struct sn_tool *tool, int c, char **argv)
{
	const char *word = argv[optind - 1];

	if (c == ':')
		return sn_tool_usage(tool, "%s needs a value", word);
	/* For a long option optopt is 0, or its value when it was given an argument it has not. */
	if (!strncmp(word, "--", 2))
		return sn_tool_usage(tool,
		                     optopt ? "%s: this option takes no value"
		                            : "%s: no such option, or an ambiguous abbreviation",
		                     word);
	return sn_tool_usage(tool, "-%c: no such option", optopt);
}

int sn_tool_set_colour(struct sn_tool *tool, const char *when)
{
	const char *no_color = getenv("NO_COLOR");
	const char *term = getenv("TERM");

	if (!strcmp(when, "always"))
		tool->colour = true;
	else if (!strcmp(when, "never"))
		tool->colour = false;
	else if (!strcmp(when, "auto"))
		tool->colour = isatty(STDOUT_FILENO) && !(no_color && *no_color) &&
		               !(term && !strcmp(term, "dumb"));
	else
		return sn_tool_usage(tool, "--color %s: auto, always or never is wanted", when);
	return 0;
}

const char *sn_tool_colour(const struct sn_tool *tool, enum sn_colour colour)
{
	static const char *const sequence[] = {
		[SN_COLOUR_NONE] = "\033[0m",   [SN_COLOUR_HEAD] = "\033[1m",
		[SN_COLOUR_DIM] = "\033[2m",    [SN_COLOUR_GOOD] = "\033[32m",
		[SN_COLOUR_BAD] = "\033[1;31m",
	};

	return tool->colour ? sequence[colour] : "";
}

int sn_tool_finish(const struct sn_tool *tool, int status)
{
	errno = 0;
	if (fflush(stdout) || ferror(stdout))
		return sn_tool_error(tool, "standard output: %s",
		                     errno ? strerror(errno) : "write failed");
	return status;
}

void sn_tool_quoted(FILE *out, const char *word)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789_./=:,+-@%";

	if (*word && !word[strspn(word, plain)]) {
		fputs(word, out);
		return;
	}
	fputc('\'', out);
	for (; *word; word++) {
		if (*word == '\'')
			fputs("'\\''", out);
		else
			fputc(*word, out);
	}
	fputc('\'', out);
}

static const char units[][4] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};

const char *sn_size_lg2(unsigned lg2, char buf[SN_SIZE_TEXT])
{
	unsigned unit = lg2 / 10 < 6 ? lg2 / 10 : 6;

	snprintf(buf, SN_SIZE_TEXT, "%u %s", 1u << (lg2 - 10 * unit), units[unit]);
	return buf;
}

const char *sn_size_bytes(uint64_t bytes, char buf[SN_SIZE_TEXT])
{
	unsigned unit = 0, hundredths, whole;
	uint64_t fraction;

	while (unit < 6 && bytes >> (10 * (unit + 1)))
		unit++;
	whole = (unsigned)(bytes >> (10 * unit));
	fraction = bytes & (((uint64_t)1 << (10 * unit)) - 1);
	if (!fraction) {
		snprintf(buf, SN_SIZE_TEXT, "%u %s", whole, units[unit]);
		return buf;
	}
	hundredths = (unsigned)((fraction >> (10 * (unit - 1))) * 100 >> 10);
	if (whole < 10)
		snprintf(buf, SN_SIZE_TEXT, "%u.%02u %s", whole, hundredths, units[unit]);
	else if (whole < 100)
		snprintf(buf, SN_SIZE_TEXT, "%u.%u %s", whole, hundredths / 10, units[unit]);
	else
		snprintf(buf, SN_SIZE_TEXT, "%u %s", whole, units[unit]);
	return buf;
}

const char *sn_rights_text(uint32_t rights, char buf[4])
{
	buf[0] = rights & SNEST_READ ? 'r' : '-';
	buf[1] = rights & SNEST_WRITE ? 'w' : '-';
	buf[2] = rights & SNEST_EXEC ? 'x' : '-';
	buf[3] = '\0';
	return buf;
}
