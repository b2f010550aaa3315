/* SPDX-License-Identifier: MIT */
/*
 * Closes the compilation of one format: its table of entry points. Include
 * last, with FMT and SN_LEVEL_NAMES (a list of strings from level 0) defined.
 */

static const char *const F(level_names)[] = {SN_LEVEL_NAMES, NULL};

const struct sn_format SN_CAT(sn_format, FMT) = {
	.name = SN_FORMAT_NAME,
	.level_names = F(level_names),
	.prepare = F(prepare),
	.walk = F(walk),
	.range = F(range),
	.decode = F(decode),
	.attr = F(attr),
	.entry_lg2 = F(ENTRY_LG2),
	.writer = &F(writer),
};
