/* SPDX-License-Identifier: MIT */
/*
 * Stages that `snest difffuzz` asks about: what the options describe, or all of
 * the tests' that the other walker does not refuse.
 */
#include <errno.h>
#include <string.h>
#include "support/configs.h"
#include "tools/difffuzz_query.h"

/* The format that is asked for, or the only one that the walker has. 0: a message was printed. */
static unsigned format_of(const struct sn_tool *tool, const struct sn_diff_query *q,
                          const struct sn_diff_walker *walker)
{
	uint32_t formats = walker->declared.formats;
	unsigned format = q->keys[0] ? snest_format_by_name(q->keys[0]) : 0, count = 0;

	if (format && (formats & SNEST_WALKER_FORMAT(format)))
		return format;
	for (unsigned f = 1; f < SNEST_FORMAT_COUNT; f++) {
		if (!(formats & SNEST_WALKER_FORMAT(f)))
			continue;
		count++;
		format = f;
	}
	if (!q->keys[0] && count == 1)
		return format;
	if (!count)
		sn_tool_error(tool, "--walker %s: it declares no format", q->walker);
	else if (q->keys[0])
		sn_tool_error(tool,
		              "--format %s: the walker has no such format; it has:", q->keys[0]);
	else
		sn_tool_error(tool, "which format? --format is missing; the walker has:");
	for (unsigned f = 1; f < SNEST_FORMAT_COUNT; f++) {
		if (formats & SNEST_WALKER_FORMAT(f))
			fprintf(stderr, "  %s\n", snest_format_name(f));
	}
	return 0;
}

static int add_stage(struct sn_diff *d, const struct sn_diff_query *q, const char *name,
                     const struct snest_stage *stage, const char **left_out)
{
	char text[SN_DIFF_STAGE_TEXT], other[SN_DIFF_STAGE_TEXT];
	struct sn_diff_stage *s = &d->stage[d->stages];
	const char *why = NULL;
	enum sn_diff_end ended;
	int ret;

	if (d->stages == SN_DIFF_STAGES_MAX)
		return 0;
	*s = (struct sn_diff_stage){.stage = *stage};
	snprintf(s->name, sizeof(s->name), "%s", name);
	ret = sn_diff_stage_create(d, d->stages);
	if (ret)
		return sn_tool_error(d->tool, "cannot create a VM: %s", strerror(-ret));
	ended = sn_diff_walker_open(&d->walker, d->stages, &s->stage, s->high);
	if (ended == SN_DIFF_DONE) {
		if (snest_stage_check(&s->stage, &why))
			ret = sn_tool_error(d->tool, "--walker %s: it changed the flags of %s: %s",
			                    q->walker, s->name, why ? why : "not usable");
		why = NULL; /* it is set in any case */
	} else if (ended == SN_DIFF_FAILED && d->walker.error == -EOPNOTSUPP) {
		why = d->walker.text;
	} else {
		ret = sn_tool_error(d->tool, "--walker %s: cannot open %s: %s", q->walker, s->name,
		                    d->walker.text);
	}
	sn_diff_stage_text(&s->stage, text);
	for (unsigned i = 0; !why && i < d->stages; i++) {
		if (!strcmp(sn_diff_stage_text(&d->stage[i].stage, other), text))
			why = "the walker makes the same of it as of another";
	}
	if (q->verbose && !ret && !q->json)
		printf("%s%s%s%s\n", s->name, why ? ": left out: " : "", why ? why : "",
		       !why && s->stage.flags != stage->flags ? ", with other flags" : "");
	if (!ret && !why) {
		d->stages++;
		return 0;
	}
	*left_out = why;
	snest_vm_destroy(s->vm);
	s->vm = NULL;
	return ret;
}

int sn_diff_stages_open(struct sn_diff *d, struct sn_diff_query *q)
{
	unsigned format = format_of(d->tool, q, &d->walker);
	struct sn_stage_list list = {.count = 0};
	const char *left_out = NULL;
	bool one = false;
	int status = 0;

	if (!format)
		return SN_EXIT_USAGE;
	for (unsigned i = 1; i < SN_STAGE_KEYS_MAX; i++)
		one |= q->keys[i] != NULL;
	if (one) {
		/* The format and the root come first among the parameters. */
		q->keys[0] = snest_format_name(format);
		q->keys[1] = "0";
		status = sn_stages_add(d->tool, &list, q->keys);
		if (!status)
			status = sn_stages_check(d->tool, &list);
		if (!status)
			status = add_stage(d, q, q->keys[0], &list.stage[0], &left_out);
	}
	for (size_t i = 0; !one && !status && i < test_configs_count; i++) {
		if (test_configs[i].stage.format == format)
			status = add_stage(d, q, test_configs[i].name, &test_configs[i].stage,
			                   &left_out);
	}
	if (!status && !d->stages)
		return sn_tool_error(d->tool, "--walker %s: it has no stage of %s: %s", q->walker,
		                     snest_format_name(format), left_out ? left_out : "");
	return status;
}
