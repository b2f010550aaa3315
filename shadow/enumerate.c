/* SPDX-License-Identifier: MIT */
/*
 * Looking into a shadow without side effects: its leaves, merged into runs.
 */
#include <errno.h>
#include "shadow/space.h"

struct runs {
	uint64_t first, last;
	struct snest_run run;
	bool open;
	snest_run_fn visit;
	void *opaque;
};

static int leaf(void *opaque, uint64_t iova, unsigned shift, uint64_t entry)
{
	struct runs *r = opaque;
	uint64_t last = iova + sn_mask(shift), host = entry & SN_SH_ADDR;
	uint8_t rights = (uint8_t)sn_sh_rights(entry);

	if (!rights)
		return 0;
	if (iova < r->first) {
		host += r->first - iova;
		iova = r->first;
	}
	if (last > r->last)
		last = r->last;
	if (r->open && r->run.rights == rights && r->run.last + 1 == iova &&
	    r->run.addr + (iova - r->run.first) == host) {
		r->run.last = last;
		if (r->run.lg2 < shift)
			r->run.lg2 = (uint8_t)shift;
		return 0;
	}
	if (r->open) {
		int ret = r->visit(r->opaque, &r->run);

		if (ret)
			return ret;
	}
	r->open = true;
	r->run = (struct snest_run){.first = iova,
	                            .last = last,
	                            .addr = host,
	                            .outcome = SNEST_WALK_HOST,
	                            .rights = rights,
	                            .lg2 = (uint8_t)shift};
	return 0;
}

int snest_space_enumerate(struct snest_space *space, uint64_t first, uint64_t last,
                          snest_run_fn visit, void *opaque)
{
	struct runs r = {.first = first, .last = last, .visit = visit, .opaque = opaque};
	int ret;

	if (first > last)
		return -EINVAL;
	sn_read_begin();
	ret = sn_tree_visit(&space->tree[0], first, last, leaf, &r);
	if (!ret && r.open)
		ret = visit(opaque, &r.run);
	sn_read_end();
	return ret;
}
