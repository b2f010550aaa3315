/* SPDX-License-Identifier: MIT */
/*
 * What every subcommand of `snest` stands on: its row in the dispatch table,
 * exit statuses, error messages, colours, sizes in human units.
 *
 * A subcommand is one file with one `sn_cmd_<name>` function and one row in
 * main.c. The tool uses the library's public headers only. Single-threaded.
 */
#ifndef SN_TOOLS_TOOL_H
#define SN_TOOLS_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Exit statuses; they are documented in docs/man/snest.1. */
#define SN_EXIT_OK 0
#define SN_EXIT_FAULT 1      /* the question was answered: some translation faults */
#define SN_EXIT_USAGE 2      /* wrong arguments, or input that cannot be read */
#define SN_EXIT_INCOMPLETE 3 /* a listing stopped at its budget */

enum sn_colour {
	SN_COLOUR_NONE,
	SN_COLOUR_HEAD,
	SN_COLOUR_DIM,
	SN_COLOUR_GOOD,
	SN_COLOUR_BAD,
};

/* One run of the tool. */
struct sn_tool {
	const char *program; /* argv[0] */
	const char *command; /* name of the subcommand, for messages; NULL: none yet */
	bool colour;         /* stdout takes colours */
};

struct sn_command {
	const char *name;
	const char *summary; /* one line for `snest --help` */
	/* argv[0] is the subcommand's name. Returns the exit status. */
	int (*run)(struct sn_tool *tool, int argc, char **argv);
};

int sn_cmd_walk(struct sn_tool *tool, int argc, char **argv);
int sn_cmd_replay(struct sn_tool *tool, int argc, char **argv);
int sn_cmd_sample(struct sn_tool *tool, int argc, char **argv);
int sn_cmd_difffuzz(struct sn_tool *tool, int argc, char **argv);

/* Prints "snest walk: ..." to stderr. Returns SN_EXIT_USAGE, so that callers can return it. */
__attribute__((format(printf, 2, 3))) int sn_tool_error(const struct sn_tool *tool,
                                                        const char *format, ...);
/* The same, and points to --help. */
__attribute__((format(printf, 2, 3))) int sn_tool_usage(const struct sn_tool *tool,
                                                        const char *format, ...);

/*
 * Reports what getopt_long, called with a ':' in front of its short options,
 * refused: `c` is what it returned. Returns SN_EXIT_USAGE.
 */
int sn_tool_bad_option(const struct sn_tool *tool, int c, char **argv);

/* --color: "auto", "always" or "never". 0, or an exit status with a message printed. */
int sn_tool_set_colour(struct sn_tool *tool, const char *when);

/* Escape sequence that switches to a colour; "" when there are none. */
const char *sn_tool_colour(const struct sn_tool *tool, enum sn_colour colour);

/* Flushes stdout. `status`, or SN_EXIT_USAGE with a message if output was lost. */
int sn_tool_finish(const struct sn_tool *tool, int status);

/* Prints a word so that a shell reads it back as it is: in quotes, where it needs them. */
void sn_tool_quoted(FILE *out, const char *word);

/* Longest text of the functions below, with its NUL. */
#define SN_SIZE_TEXT 24

/* 2^lg2 bytes as "4 KiB", "2 MiB"; exact. lg2 up to 64. */
const char *sn_size_lg2(unsigned lg2, char buf[SN_SIZE_TEXT]);

/* A byte count: exact ("4 KiB"), or rounded down to three digits ("1.00 GiB", "15.9 MiB"). */
const char *sn_size_bytes(uint64_t bytes, char buf[SN_SIZE_TEXT]);

/* Rights as "rwx", "r--". */
const char *sn_rights_text(uint32_t rights, char buf[4]);

#endif
