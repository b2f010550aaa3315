/* SPDX-License-Identifier: MIT */
/*
 * What `snest walk` looks at and how it shows it: stages or a context, single
 * walks and lists of runs, as text or as JSON.
 */
#ifndef SN_TOOLS_WALK_VIEW_H
#define SN_TOOLS_WALK_VIEW_H

#include <snest/walk.h>
#include "tools/image.h"
#include "tools/iommu.h"
#include "tools/json.h"

struct sn_walk_view {
	const struct sn_tool *tool;
	const struct sn_images *images;
	struct snest_vm *vm;
	/* What is walked. `context` and `iommu` are NULL when the stages were given directly. */
	const struct snest_stage *stages;
	unsigned count;
	const struct sn_iommu *iommu;
	const struct snest_context *context;
	struct snest_request request; /* iova: set anew for each walk */
	struct sn_json *json;         /* NULL: text */
	bool quiet;                   /* text: results only, without the way to them */
};

/* One walk, done and ready to be shown. */
struct sn_walk_record {
	struct snest_walk result;
	struct snest_walk_step *steps;
	size_t nsteps;   /* entries of `steps` that are filled */
	size_t capacity; /* entries that `steps` can hold */
};

/*
 * Translates view->request.iova into *record, whose `steps` are reused from
 * call to call and freed by the caller. 0 or a negative errno.
 */
int sn_walk_record(const struct sn_walk_view *view, struct sn_walk_record *record);

/* How deep step i is nested: 0 for the tables of an address that was asked for. */
unsigned char *sn_walk_depths(const struct sn_walk_record *record);

/* The outcome of view->context, or the list of stages. */
void sn_walk_show_source(const struct sn_walk_view *view);
void sn_walk_show(const struct sn_walk_view *view, const struct sn_walk_record *record);
void sn_walk_json_source(const struct sn_walk_view *view);
void sn_walk_json(const struct sn_walk_view *view, const struct sn_walk_record *record);

/*
 * Lists all mapped runs of first..last, examining at most `budget` entries.
 * Returns the exit status.
 */
int sn_walk_list(const struct sn_walk_view *view, uint64_t first, uint64_t last, uint64_t budget);

/*
 * Name of the next flag of SNEST_ATTR_* that is set, NULL if there is none
 * left. *next is 0 at first, and where to go on afterwards.
 */
const char *sn_attr_name(uint32_t attr, unsigned *next);

/* "accessed dirty type 6" for attributes, "" for none. */
#define SN_ATTR_TEXT 96
const char *sn_attr_text(uint32_t attr, char buf[SN_ATTR_TEXT]);

/* "read", "read write, privileged" for an access. */
#define SN_ACCESS_TEXT 48
const char *sn_access_text(uint32_t access, char buf[SN_ACCESS_TEXT]);

#endif
