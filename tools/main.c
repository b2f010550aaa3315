/* SPDX-License-Identifier: MIT */
/*
 * The `snest` command: finds the subcommand and runs it. A new subcommand is
 * one file and one row of `commands`.
 */
#include <snest/vm.h>
#include <string.h>
#include "tools/tool.h"

static const struct sn_command commands[] = {
	{"walk", "show what addresses mean in a memory image's page tables", sn_cmd_walk},
	{"replay", "replay recorded guests and compare every translation", sn_cmd_replay},
	{"difffuzz", "compare another table walker with snest's on generated tables",
         sn_cmd_difffuzz},
	{"sample", "write a memory image with small, interesting tables", sn_cmd_sample},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static int help(void)
{
	fputs("Usage: snest COMMAND [OPTION]... [ARGUMENT]...\n"
	      "\n"
	      "Reads the page tables and device structures of IOMMUs.\n"
	      "\n"
	      "Commands:\n",
	      stdout);
	for (size_t i = 0; i < COMMANDS; i++)
		printf("  %-9s %s\n", commands[i].name, commands[i].summary);
	fputs("\n"
	      "`snest COMMAND --help` describes one command; the manual page is snest(1).\n"
	      "`snest --version` prints the version of the library.\n",
	      stdout);
	return SN_EXIT_OK;
}

int main(int argc, char **argv)
{
	struct sn_tool tool = {.program = argc ? argv[0] : "snest"};
	const char *name = argc > 1 ? argv[1] : NULL;
	bool for_help;

	sn_tool_set_colour(&tool, "auto");
	if (!name)
		return sn_tool_usage(&tool, "which command? `snest --help` lists them");
	if (!strcmp(name, "--version")) {
		printf("snest %s\n", snest_version());
		return sn_tool_finish(&tool, SN_EXIT_OK);
	}
	for_help = !strcmp(name, "help") && argc > 2;
	if (!strcmp(name, "--help") || !strcmp(name, "-h") || (!strcmp(name, "help") && argc == 2))
		return sn_tool_finish(&tool, help());
	if (for_help)
		name = argv[2];
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(name, commands[i].name))
			continue;
		tool.command = commands[i].name;
		if (for_help) {
			char option[] = "--help";
			char *words[] = {argv[2], option, NULL};

			return sn_tool_finish(&tool, commands[i].run(&tool, 2, words));
		}
		return sn_tool_finish(&tool, commands[i].run(&tool, argc - 1, argv + 1));
	}
	if (name[0] == '-')
		return sn_tool_usage(&tool, "%s: options come after the command", name);
	return sn_tool_usage(&tool, "%s: no such command", name);
}
