/* SPDX-License-Identifier: MIT */
/*
 * `snest walk`: what addresses mean in the tables of a memory image. This file
 * reads the command line and drives tools/walk_view.h.
 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include "tools/args.h"
#include "tools/stages.h"
#include "tools/walk_view.h"

/* Entries a listing examines without --budget: 64 GiB of 4 KiB pages, seconds at the worst. */
#define BUDGET_DEFAULT ((uint64_t)1 << 24)

/* Values of long options that have no short one. */
enum {
	OPT_IOMMU = 256,
	OPT_STAGE,
	OPT_RID,
	OPT_PASID,
	OPT_REQUEST,
	OPT_PRIVILEGED,
	OPT_RANGE,
	OPT_BUDGET,
	OPT_JSON,
	OPT_COLOUR,
	OPT_KEY = 512,       /* + i: parameter i of the only stage */
	OPT_REGISTER = 1024, /* + i: register i of the IOMMU */
};

static const struct option options[] = {
	{"memory", required_argument, NULL, 'm'},
	{"access", required_argument, NULL, 'a'},
	{"quiet", no_argument, NULL, 'q'},
	{"help", no_argument, NULL, 'h'},
	{"iommu", required_argument, NULL, OPT_IOMMU},
	{"stage", required_argument, NULL, OPT_STAGE},
	{"rid", required_argument, NULL, OPT_RID},
	{"pasid", required_argument, NULL, OPT_PASID},
	{"request", required_argument, NULL, OPT_REQUEST},
	{"privileged", no_argument, NULL, OPT_PRIVILEGED},
	{"range", required_argument, NULL, OPT_RANGE},
	{"budget", required_argument, NULL, OPT_BUDGET},
	{"json", no_argument, NULL, OPT_JSON},
	{"color", required_argument, NULL, OPT_COLOUR},
	{"colour", required_argument, NULL, OPT_COLOUR},
};

#define OPTIONS (sizeof(options) / sizeof(options[0]))

/* The command line, understood. */
struct query {
	struct sn_images images;
	struct sn_stage_list stages; /* of --stage */
	const char *keys[SN_STAGE_KEYS_MAX];
	const char *iommu;
	const char *registers[SN_IOMMU_REGISTERS_MAX];
	bool rid_given, pasid_given, request_given;
	bool range_given, budget_given;
	uint64_t first, last, budget;
	struct snest_request request;
	bool json, quiet, help;
	uint64_t *iovas;
	size_t niovas;
};

static void help(void)
{
	fputs("Usage: snest walk --memory FILE[@GPA]... SOURCE [OPTION]... IOVA...\n"
	      "       snest walk --memory FILE[@GPA]... SOURCE [OPTION]... --range FIRST-LAST\n"
	      "\n"
	      "Translates IOVAs, or lists all that is mapped, through the page tables in a\n"
	      "memory image. SOURCE says where the tables are:\n"
	      "  --format F --root ADDRESS ...         one stage\n"
	      "  --stage format=F,root=ADDRESS,...     a stage; repeat it, nearest to the\n"
	      "                                        device first, for nested tables\n"
	      "  --iommu vtd|amd|smmu|riscv --rid RID  the device structures of an IOMMU, from\n"
	      "                                        its registers; see below\n"
	      "\n"
	      "Options:\n"
	      "  -m, --memory FILE[@GPA]  guest memory from GPA on (default 0), raw; repeat it\n"
	      "      --rid RID            requester: BUS:DEVICE.FUNCTION, or a number\n"
	      "      --pasid N            the request carries this PASID\n"
	      "      --request KIND       untranslated (default), translation, translated, page\n"
	      "  -a, --access RIGHTS      letters of rwx, or none; default r\n"
	      "      --privileged         the request is privileged\n"
	      "      --range FIRST-LAST   list all mapped runs; also FIRST+SIZE, or all\n"
	      "      --budget N           entries that a list may examine, default 16M; 0: all\n"
	      "      --json               JSON, described in snest-walk(1)\n"
	      "      --color WHEN         auto (default; honours NO_COLOR), always, never\n"
	      "  -q, --quiet              results only, not the entries on the way\n"
	      "  -h, --help               this text\n"
	      "\n"
	      "Numbers are decimal, or hexadecimal with 0x; K, M, G, T may follow.\n"
	      "\n",
	      stdout);
	sn_stages_help();
	fputc('\n', stdout);
	sn_iommu_help();
	fputs("\n"
	      "Exit status: 0 all translated, 1 a translation faults, 2 wrong arguments or\n"
	      "input, 3 a list stopped at its budget.\n"
	      "\n"
	      "Examples:\n"
	      "  snest walk -m ram.img --format vtd-ss --root 0x101000 --levels 4 0x40001000\n"
	      "  snest walk -m ram.img --stage format=x86-64,root=0x5000,levels=4 \\\n"
	      "      --stage format=vtd-ss,root=0x101000,levels=4 --access w 0x7f0000001000\n"
	      "  snest walk -m low.img -m high.img@4G --iommu vtd --rtaddr 0x1000 \\\n"
	      "      --rid 00:03.0 --range all\n",
	      stdout);
}

static int one_option(struct sn_tool *tool, struct query *q, int c, char *value)
{
	uint64_t number = 0;
	uint32_t rights;

	switch (c) {
	case 'm':
		return sn_images_add(tool, &q->images, value);
	case 'a':
		if (!sn_args_rights(value, &rights))
			return sn_tool_usage(tool, "--access %s: " SN_ARGS_RIGHTS " is wanted",
			                     value);
		q->request.access = (q->request.access & SNEST_PRIVILEGED) | rights;
		break;
	case 'q':
		q->quiet = true;
		break;
	case 'h':
		q->help = true;
		break;
	case OPT_IOMMU:
		q->iommu = value;
		break;
	case OPT_STAGE:
		return sn_stages_add_text(tool, &q->stages, value);
	case OPT_RID:
		if (!sn_args_rid(value, &q->request.rid))
			return sn_tool_usage(tool, "--rid %s: wanted is " SN_ARGS_RID, value);
		q->rid_given = true;
		break;
	case OPT_PASID:
		if (!sn_args_max(value, 0xfffff, &number))
			return sn_tool_usage(
				tool, "--pasid %s: a number of at most 20 bits is wanted", value);
		q->request.pasid = (uint32_t)number;
		q->pasid_given = true;
		break;
	case OPT_REQUEST:
		if (!sn_iommu_request_kind(value, &q->request.kind))
			return sn_tool_usage(
				tool,
				"--request %s: untranslated, translation, translated or "
				"page is wanted",
				value);
		q->request_given = true;
		break;
	case OPT_PRIVILEGED:
		q->request.access |= SNEST_PRIVILEGED;
		break;
	case OPT_RANGE:
		if (!sn_args_range(value, &q->first, &q->last))
			return sn_tool_usage(tool,
			                     "--range %s: " SN_ARGS_RANGE
			                     " is wanted, with FIRST not above LAST",
			                     value);
		q->range_given = true;
		break;
	case OPT_BUDGET:
		if (!sn_args_u64(value, &q->budget))
			return sn_tool_usage(tool, "--budget %s: " SN_ARGS_NUMBER " is wanted",
			                     value);
		q->budget_given = true;
		break;
	case OPT_JSON:
		q->json = true;
		break;
	case OPT_COLOUR:
		return sn_tool_set_colour(tool, value);
	default:
		if (c >= OPT_KEY && c < OPT_KEY + SN_STAGE_KEYS_MAX)
			q->keys[c - OPT_KEY] = value;
		if (c >= OPT_REGISTER && c < OPT_REGISTER + SN_IOMMU_REGISTERS_MAX)
			q->registers[c - OPT_REGISTER] = value;
	}
	return 0;
}

static int parse_iovas(const struct sn_tool *tool, struct query *q, int count, char **words)
{
	q->iovas = calloc(count ? (size_t)count : 1, sizeof(*q->iovas));
	if (!q->iovas)
		return sn_tool_error(tool, "out of memory");
	for (int i = 0; i < count; i++) {
		if (!sn_args_u64(words[i], &q->iovas[i]))
			return sn_tool_usage(tool, "IOVA %s: wanted is " SN_ARGS_NUMBER, words[i]);
	}
	q->niovas = (size_t)count;
	return 0;
}

static int parse(struct sn_tool *tool, struct query *q, int argc, char **argv)
{
	struct option all[OPTIONS + SN_STAGE_KEYS_MAX + SN_IOMMU_REGISTERS_MAX + 1] = {0};
	size_t n = OPTIONS;
	int c, status;

	memcpy(all, options, sizeof(options));
	for (unsigned i = 0; sn_stage_key(i); i++)
		all[n++] =
			(struct option){sn_stage_key(i), required_argument, NULL, OPT_KEY + (int)i};
	for (unsigned i = 0; sn_iommu_register(i); i++)
		all[n++] = (struct option){sn_iommu_register(i), required_argument, NULL,
		                           OPT_REGISTER + (int)i};
	while ((c = getopt_long(argc, argv, ":m:a:qh", all, NULL)) != -1) {
		if (c == '?' || c == ':')
			return sn_tool_bad_option(tool, c, argv);
		status = one_option(tool, q, c, optarg);
		if (status || q->help)
			return status;
	}
	return parse_iovas(tool, q, argc - optind, argv + optind);
}

/* The first option of a list that was given, NULL if none. */
static const char *first_given(const char *const *values, const char *(*name)(unsigned i))
{
	for (unsigned i = 0; name(i); i++) {
		if (values[i])
			return name(i);
	}
	return NULL;
}

/* What does not go together, and what is missing. */
static int check(const struct sn_tool *tool, const struct query *q)
{
	const char *key = first_given(q->keys, sn_stage_key);
	const char *reg = first_given(q->registers, sn_iommu_register);

	if (!q->images.count)
		return sn_tool_usage(tool, "no memory image: --memory FILE[@GPA] is missing");
	if (q->iommu && (q->stages.count || key))
		return sn_tool_usage(tool,
		                     "--iommu finds the stages itself: %s%s does not go with it",
		                     key ? "--" : "--stage", key ? key : "");
	if (q->stages.count && key)
		return sn_tool_usage(tool,
		                     "--%s describes the only stage: with --stage, write %s=... "
		                     "into it",
		                     key, key);
	if (!q->iommu && !q->stages.count && !key)
		return sn_tool_usage(tool, "no tables: --format and --root, --stage or --iommu is "
		                           "missing");
	if (!q->iommu && (reg || q->rid_given || q->pasid_given || q->request_given))
		return sn_tool_usage(tool, "--%s needs --iommu",
		                     reg              ? reg
		                     : q->rid_given   ? "rid"
		                     : q->pasid_given ? "pasid"
		                                      : "request");
	if (q->iommu && !q->rid_given)
		return sn_tool_usage(tool, "--iommu needs --rid, the requester; " SN_ARGS_RID);
	if (q->range_given && q->niovas)
		return sn_tool_usage(tool, "IOVAs and --range exclude each other");
	if (!q->range_given && !q->niovas)
		return sn_tool_usage(tool, "no IOVA to translate, and no --range to list");
	if (q->budget_given && !q->range_given)
		return sn_tool_usage(tool, "--budget limits --range, which is missing");
	return 0;
}

static int walk_all(struct sn_walk_view *view, const struct query *q)
{
	struct sn_walk_record record = {.steps = NULL};
	int status = SN_EXIT_OK;

	if (view->json)
		sn_json_open(view->json, "walks", '[');
	for (size_t i = 0; i < q->niovas; i++) {
		int ret;

		view->request.iova = q->iovas[i];
		ret = sn_walk_record(view, &record);
		if (ret) {
			status = sn_tool_error(view->tool, "IOVA 0x%llx: %s",
			                       (unsigned long long)q->iovas[i], strerror(-ret));
			break;
		}
		if (record.result.outcome == SNEST_WALK_FAULT)
			status = SN_EXIT_FAULT;
		if (view->json)
			sn_walk_json(view, &record);
		else
			sn_walk_show(view, &record);
	}
	if (view->json)
		sn_json_close(view->json, ']');
	free(record.steps);
	return status;
}

/* Everything is understood and there: shows it. */
static int show(struct sn_walk_view *view, const struct query *q)
{
	struct sn_json *json = view->json;
	int status;

	if (json) {
		sn_json_begin(json, stdout);
		sn_json_open(json, NULL, '{');
		sn_json_string(json, "version", snest_version());
		sn_walk_json_source(view);
	} else {
		sn_walk_show_source(view);
	}
	if (!q->range_given) {
		status = walk_all(view, q);
	} else if (view->context && view->context->outcome != SNEST_CONTEXT_STAGES) {
		/* There is nothing to list; one walk says why. */
		struct query one = {.iovas = (uint64_t[]){q->first}, .niovas = 1};

		status = walk_all(view, &one);
	} else {
		status = sn_walk_list(view, q->first, q->last, q->budget);
	}
	if (json) {
		sn_json_close(json, '}');
		sn_json_end(json);
	}
	return status;
}

/* From the IOMMU's registers and the request to the stages. */
static int resolve(const struct sn_tool *tool, struct sn_walk_view *view, struct query *q,
                   struct sn_iommu *iommu, struct snest_context *context)
{
	int ret;

	view->request.iova = q->niovas ? q->iovas[0] : q->first;
	ret = sn_iommu_context(iommu, view->vm, &view->request, context);
	if (ret)
		return sn_tool_error(
			tool,
			"--iommu %s: the registers or the request are impossible (%s); "
			"check --rid and the capability registers",
			q->iommu, strerror(-ret));
	view->iommu = iommu;
	view->context = context;
	view->stages = context->stage;
	view->count = context->count;
	return 0;
}

static int run(const struct sn_tool *tool, struct query *q)
{
	struct snest_context context;
	struct sn_iommu iommu = {0};
	struct sn_json json;
	struct sn_walk_view view = {
		.tool = tool,
		.images = &q->images,
		.request = q->request,
		.json = q->json ? &json : NULL,
		.quiet = q->quiet,
	};
	int ret, status = 0;

	if (q->iommu)
		status = sn_iommu_set(tool, &iommu, q->iommu, q->registers);
	else if (!q->stages.count)
		status = sn_stages_add(tool, &q->stages, q->keys);
	if (!status)
		status = sn_stages_check(tool, &q->stages);
	if (status)
		return status;
	ret = snest_vm_create(NULL, &view.vm);
	if (ret)
		return sn_tool_error(tool, "cannot create a VM: %s", strerror(-ret));
	snest_thread_register();
	view.stages = q->stages.stage;
	view.count = q->stages.count;
	status = sn_images_attach(tool, &q->images, view.vm);
	if (!status && q->iommu)
		status = resolve(tool, &view, q, &iommu, &context);
	if (!status)
		status = show(&view, q);
	snest_thread_unregister();
	snest_vm_destroy(view.vm);
	return status;
}

int sn_cmd_walk(struct sn_tool *tool, int argc, char **argv)
{
	struct query *q = calloc(1, sizeof(*q));
	int status;

	if (!q)
		return sn_tool_error(tool, "out of memory");
	q->budget = BUDGET_DEFAULT;
	q->request = (struct snest_request){
		.size = sizeof(q->request),
		.pasid = SNEST_NO_PASID,
		.access = SNEST_READ,
		.flags = SNEST_REQUEST_NO_UPDATE,
	};
	status = parse(tool, q, argc, argv);
	if (q->help && !status)
		help();
	else if (!status)
		status = check(tool, q);
	if (!status && !q->help)
		status = run(tool, q);
	sn_images_close(&q->images);
	free(q->iovas);
	free(q);
	return status;
}
