/* SPDX-License-Identifier: MIT */
/*
 * What readers look at: one slot for each page that a device has used, with the
 * answers that are legal for it now. replay_slots.c writes them, with
 * the stamps of replay_stamps.c; replay_readers.c reads at the same time.
 */
#ifndef SN_TOOLS_REPLAY_SLOTS_H
#define SN_TOOLS_REPLAY_SLOTS_H

#include "tools/replay.h"

/*
 * A legal answer in one word: the page's GPA and its rights, or SN_LEGAL_FAULT.
 * SN_LEGAL_NONE: this place of the set is empty.
 */
#define SN_LEGAL_NONE UINT64_MAX
#define SN_LEGAL_FAULT UINT64_C(0)
#define SN_LEGAL_MAX 4u

struct sn_slot {
	/* set before the slot is shown to readers */
	uint32_t rid, pasid;
	uint64_t page;
	struct snest_device *device;
	/* under the sequence number; single words so that torn reads are none */
	uint64_t legal[SN_LEGAL_MAX];
	uint64_t wild; /* not 0: any answer may be legal */

	/* the writer's own */
	struct sn_slot *next;  /* in its bucket */
	struct sn_unit *unit;  /* the device and PASID */
	struct sn_slot *dirty; /* next in the list of slots that changed since they were covered */
	bool listed;
	struct sn_slot *todo; /* next of those to be walked again */
	bool due;
	unsigned deps;
	struct sn_dep {
		uint64_t gpa; /* a word that the walk read */
		struct sn_slot *slot;
		struct sn_dep *next, **link; /* in its bucket; link NULL: not listed */
		bool last;                   /* the walk ended with it */
	} dep[8];
};

/* A device and PASID. */
struct sn_unit {
	uint32_t rid, pasid;
	struct snest_device *device;
	struct snest_context context; /* as of now */
	bool large; /* pages larger than 4 KiB were seen: neighbours share leaves */
	/* of a changed context: what the guest has announced */
	enum {
		SN_UNIT_SETTLED,
		SN_UNIT_CHANGED,
		SN_UNIT_CONTEXT_COVERED
	} state;
};

#define SN_SLOTS_MAX 65536u
#define SN_UNITS_MAX 64u
#define SN_SLOT_BUCKETS 65536u
#define SN_PENDING_MAX 256u

struct sn_stamps {
	uint64_t first, last; /* GPAs */
	void *mapping;        /* holds `data` */
	uint8_t *data;        /* host memory of the region: its address is the host address */
	uint32_t *users;      /* for each page, places in sets that name it */
};

struct sn_slots {
	/* Even: at rest. Odd: the sets, or the tables that they stand for, are changing. */
	uint64_t sequence;
	uint64_t line;                      /* for messages */
	struct sn_slot *slot[SN_SLOTS_MAX]; /* the first `count` are shown */
	uint64_t count;
	uint64_t latest; /* index of the slot used last */

	/* the writer's own */
	struct sn_stamps stamps[SN_SPARSE_REGIONS_MAX];
	unsigned regions;
	struct sn_slot *bucket[SN_SLOT_BUCKETS];
	struct sn_dep *deps[SN_SLOT_BUCKETS];
	struct sn_unit unit[SN_UNITS_MAX];
	unsigned units;
	struct sn_slot *dirty;
	struct sn_cover pending[SN_PENDING_MAX]; /* commands that no wait has completed yet */
	unsigned pendings;
};

/* A page's stamp: its GPA, or this when no set names it. */
#define SN_STAMP_FREED (~UINT64_C(0))

/* ---- replay_stamps.c ---- */

int sn_stamps_create(struct sn_slots *slots, const struct sn_sparse *memory);
void sn_stamps_destroy(struct sn_slots *slots);
/* One more (change 1), or one less (-1), place in a set says `legal`. */
void sn_stamps_use(struct sn_slots *slots, uint64_t legal, int change);

#endif
