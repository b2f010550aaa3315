/* SPDX-License-Identifier: MIT */
/*
 * The VT-d front end inside: the object, its locks, and what its files owe
 * each other. Only viommu/vtd_*.c includes this.
 *
 * Locks. `mirror_lock` is outermost: held while mirrors are switched. `lock`
 * comes next and guards all that is not said to be otherwise. Nothing slow
 * happens under `lock`: no wait for readers, no sink, no hook. So a lookup may
 * take it inside its read section when it has to resolve.
 *
 * The queue. Whoever sets queue.running owns the queue: it copies descriptors
 * and executes them without `lock`, so other vCPUs reach the registers
 * meanwhile. Another writer of IQT finds it running and returns; the owner
 * reads the tail again before it stops.
 *
 * Configuration (hazards 1, 5 and 15). A request that is bound to no space is
 * resolved and bound in one critical section of `lock`. A configuration
 * command unbinds in another one. If the command comes second it finds the
 * binding and removes it; if it comes first, the resolve reads the guest's
 * tables after the guest announced their change. Either way no binding from
 * older tables is left when the command has returned. Unbinding goes by what
 * was cached, never by what the tables say now.
 *
 * Completion. Whatever the guest waits for is a struct sn_vtd_completion whose
 * drain began after the invalidations it stands for had returned. Drains
 * complete in order, so waits do.
 */
#ifndef SN_VIOMMU_VTD_H
#define SN_VIOMMU_VTD_H

#include <pthread.h>
#include <snest/device.h>
#include <snest/vtd.h>
#include <urcu/list.h>
#include "core/vm.h"
#include "shadow/device.h"
#include "viommu/vtd_defs.h"

/* Registers that hold a value. IVA and IOTLB lie at ECAP.IRO, the records at CAP.FRO. */
enum sn_vtd_reg {
	REG_NONE,
	REG_VER,
	REG_CAP,
	REG_ECAP,
	REG_GCMD,
	REG_GSTS,
	REG_RTADDR,
	REG_CCMD,
	REG_FSTS,
	REG_FECTL,
	REG_FEDATA,
	REG_FEADDR,
	REG_FEUADDR,
	REG_PMEN,
	REG_PLMBASE,
	REG_PLMLIMIT,
	REG_PHMBASE,
	REG_PHMLIMIT,
	REG_IQH,
	REG_IQT,
	REG_IQA,
	REG_ICS,
	REG_IECTL,
	REG_IEDATA,
	REG_IEADDR,
	REG_IEUADDR,
	REG_IQERCD,
	REG_IRTA,
	REG_PQH,
	REG_PQT,
	REG_PQA,
	REG_PRS,
	REG_PECTL,
	REG_PEDATA,
	REG_PEADDR,
	REG_PEUADDR,
	REG_IVA,
	REG_IOTLB,
	REG_COUNT,
	REG_FRCD = REG_COUNT, /* in the map of the page only */
};

/* The three event interrupts. Their CTL, DATA, ADDR, UADDR registers are consecutive. */
enum sn_vtd_event {
	EVENT_FAULT,
	EVENT_QUEUE,
	EVENT_PAGE,
	EVENT_COUNT,
};

/* What a register access leaves to be done without `lock`. */
#define TODO_QUEUE 0x1u  /* run the queue */
#define TODO_CONFIG 0x2u /* root or TE changed: everything was unbound */
#define TODO_FORGET 0x4u /* and everything cached is to go */
#define TODO_CCMD 0x8u
#define TODO_IOTLB 0x10u
#define TODO_INTERRUPTS 0x20u

/* Waits that may be pending at once; the queue pauses beyond. */
#define SN_VTD_WAITS 32u

struct sn_vtd_completion {
	struct snest_drain drain;
	struct snest_vtd *vtd;
	struct sn_vtd_completion *next; /* SYNC: not yet drained */
	void (*done)(struct sn_vtd_completion *c);
	bool armed;
};

struct sn_vtd_wait {
	struct sn_vtd_completion completion;
	uint64_t address; /* of the status */
	uint32_t status;
	uint8_t flags; /* VTD_WAIT_* */
	bool drained;
	bool aborted;
};

struct sn_vtd_frcd {
	uint64_t low, high;
};

#define SN_VTD_HASH 256u
#define SN_VTD_REQUEST_HASH 1024u

struct sn_vtd_device {
	/* What lookups read, in one cache line. */
	struct snest_vtd *vtd;
	struct snest_device *handle;
	/*
	 * What requests without PASID count as: a mask to apply and a value to
	 * set, from RID_PRIV. Atomic; written when the binding is made.
	 */
	uint32_t privilege_keep, privilege_set;
	uint64_t pass_last; /* the last IOVA that passes untranslated; atomic, as above */
	/* vtd->generation when translated requests were found allowed; 0: never. Atomic. */
	uint64_t translated;

	struct cds_list_head hash;     /* in vtd->device */
	struct cds_list_head bindings; /* sn_vtd_binding.of_device */
	struct cds_list_head mirrors;  /* sn_vtd_mirror.of_device */
	/* Page request groups that wait for their response, a bit each. Under the lock. */
	uint64_t groups[512 / 64];
};

/*
 * A binding of a device (and PASID) to a space, which lives in the device's
 * handle. Constant once it is published in vtd->request, where lookups find it;
 * freed after a grace period.
 */
struct sn_vtd_binding {
	struct sn_vtd_binding *next_request; /* RCU: chain of its bucket in vtd->request */
	struct sn_vtd_binding **prev_request;
	struct sn_vtd_device *device;
	const struct snest_space *space; /* for comparing only: the device's handle owns it */
	uint32_t pasid;                  /* as requests say it */
	uint32_t refused; /* SNEST_PRIVILEGED, SNEST_EXEC: kinds that the configuration refuses */
	struct cds_list_head of_device;
	struct cds_list_head of_domain; /* in vtd->domain */
	struct cds_list_head age;       /* in vtd->bindings, oldest first */
	struct snest_vm *vm;            /* outlives the front end, as freeing may */
	struct sn_reclaim_node node;
	struct snest_context context;
};

struct sn_vtd_mirror {
	struct cds_list_head of_device;
	struct cds_list_head all; /* in vtd->mirrors */
	struct sn_vtd_device *device;
	struct snest_space *space; /* referenced; NULL: the sink is empty */
	struct snest_sink sink;
	uint32_t pasid;
	uint32_t number; /* from 1 */
};

struct snest_vtd {
	struct snest_vm *vm;
	/* Constant. */
	uint64_t cap, ecap;
	uint32_t haw;
	uint32_t budget;
	uint32_t bindings_max;
	uint64_t table_bytes_max, sync_entries_max; /* of each space */
	uint32_t domain_mask;
	bool sync;
	struct snest_vtd_hooks hooks;
	uint8_t reg_at[VTD_PAGE_SIZE / 4]; /* enum sn_vtd_reg of each 4 bytes */

	pthread_mutex_t mirror_lock;
	struct cds_list_head mirrors; /* under mirror_lock */
	uint32_t mirror_count;        /* of them; atomic */

	pthread_mutex_t lock;
	pthread_cond_t changed; /* queue.running, pending */

	uint64_t reg[REG_COUNT];
	struct sn_vtd_frcd *frcd; /* VTD_CAP_NFR records */
	unsigned frcd_next;
	unsigned frcd_pending; /* records with F set */
	uint64_t root;         /* latched */
	bool te;               /* translation, as lookups see it; GSTS.TES follows after a drain */

	struct {
		bool running;      /* somebody owns the queue */
		bool fence;        /* a wait with FN is pending */
		bool completing;   /* somebody writes statuses */
		bool resume_armed; /* the background thread will go on */
		bool unsettled; /* the owner's: invalidated something since the last drain began */
		uint64_t iqa;   /* latched */
		unsigned wait_first, waits; /* ring in `wait` */
		struct sn_vtd_wait wait[SN_VTD_WAITS];
		struct sn_reclaim_node resume;
	} queue;

	/* GSTS bits on their way: wanted, and those whose drain began. */
	uint32_t gsts_set, gsts_clear;
	uint32_t gsts_set_now, gsts_clear_now;
	unsigned config_busy; /* TODO_CONFIG work that is not finished */
	struct sn_vtd_completion gcmd, ccmd, iotlb, pmen;
	bool pmen_again; /* turned on once more while its drain was under way */
	/* What IOTLB.IVT began: later writes of IVA do not change it. */
	struct {
		uint64_t q[2];        /* as the descriptor that says the same */
		unsigned granularity; /* for IAIG */
	} by_register;
	unsigned frozen;  /* saving or restoring: nothing is fetched */
	unsigned pending; /* completions and resumes in flight */
	struct sn_vtd_completion *sync_first, **sync_last;

	struct {
		bool pending;
		uint64_t address;
		uint32_t data;
	} msi[EVENT_COUNT];

	struct cds_list_head device[SN_VTD_HASH];            /* by rid */
	struct cds_list_head domain[SN_VTD_HASH];            /* bindings by DID */
	struct sn_vtd_binding *request[SN_VTD_REQUEST_HASH]; /* RCU: by device and PASID */
	struct cds_list_head bindings;
	unsigned idle_bindings; /* that were given back since the background thread was woken */
	/*
	 * Spaces may have a first stage: the root was latched in a mode that has
	 * them. Atomic, never cleared. The guest knows of the mode only after the
	 * handshake that followed, so every command that matters sees it set.
	 */
	bool first_stage;
	/* From 1, up with every change of root or context entries. Atomic; written under the lock. */
	uint64_t generation;
	struct snest_space *pass; /* for translated requests: GPAs; NULL without device TLBs */

	bool guarded; /* atomic: protected memory is on, lookups take the long way */

	struct snest_vtd_stats stats;
};

/* ---- vtd.c ------------------------------------------------------------------ */

static inline void sn_vtd_lock(struct snest_vtd *vtd)
{
	pthread_mutex_lock(&vtd->lock);
}

/* Unlocks, and sends the interrupts that were raised meanwhile. */
void sn_vtd_unlock(struct snest_vtd *vtd);

/* Begins the drain of a completion. Under the lock, everything it stands for done. */
void sn_vtd_arm(struct snest_vtd *vtd, struct sn_vtd_completion *c,
                void (*done)(struct sn_vtd_completion *c));

/* SYNC: drains and completes what was armed. Without lock, outside read sections. */
void sn_vtd_finish(struct snest_vtd *vtd);

/* Sleeps until vtd->changed is signalled. Under the lock, which it lets go meanwhile. */
void sn_vtd_sleep(struct snest_vtd *vtd);

/* Waits until nothing is pending and nobody runs the queue. Under the lock, which it lets go. */
void sn_vtd_quiesce(struct snest_vtd *vtd);

/* Has the background thread go on with the queue. Under the lock. */
void sn_vtd_resume_later(struct snest_vtd *vtd);

/* ---- vtd_caps.c --------------------------------------------------------------- */

/* Fills the constants of *vtd from a configuration. 0, -EINVAL or -EOPNOTSUPP with *why. */
int sn_vtd_capabilities(struct snest_vtd *vtd, const struct snest_vtd_config *config,
                        const char **why);

/* ---- vtd_regs.c --------------------------------------------------------------- */

void sn_vtd_regs_init(struct snest_vtd *vtd, uint32_t version);
/* Bits of a register that can ever be set in this front end. */
uint64_t sn_vtd_reg_possible(const struct snest_vtd *vtd, enum sn_vtd_reg reg);

/* ---- vtd_command.c ------------------------------------------------------------- */

/*
 * Side effects of writes: `lanes` are the bits that the access covered,
 * `written` their values. Under the lock. Return TODO_*.
 */
uint32_t sn_vtd_write_gcmd(struct snest_vtd *vtd, uint64_t old, uint64_t written, uint64_t lanes);
uint32_t sn_vtd_write_ccmd(struct snest_vtd *vtd, uint64_t old, uint64_t written, uint64_t lanes);
uint32_t sn_vtd_write_iotlb(struct snest_vtd *vtd, uint64_t old, uint64_t written, uint64_t lanes);

/* Latches a root, turns translation on or off. Under the lock. Return TODO_*. */
uint32_t sn_vtd_latch_root(struct snest_vtd *vtd, uint64_t rtaddr);
uint32_t sn_vtd_set_te(struct snest_vtd *vtd, bool te);

/* Does what is left to do. Without lock, outside read sections. What a mirror's sink returned. */
int sn_vtd_todo(struct snest_vtd *vtd, uint32_t todo);

/* Begins the drain of GSTS changes when nothing they depend on is under way. Under the lock. */
void sn_vtd_settle(struct snest_vtd *vtd);

/* ---- vtd_invalidate.c ----------------------------------------------------------- */

struct sn_vtd_command {
	uint8_t type; /* VTD_DESC_* */
	uint8_t granularity;
	uint8_t function_mask;
	bool leaf; /* IH */
	uint32_t did;
	uint32_t rid;
	uint32_t pasid;
	uint64_t first, last;
	uint64_t address; /* wait: status address */
	uint32_t status;
	uint32_t flags; /* wait: VTD_WAIT_*; page response: code */
	uint64_t private_data[2];
	uint32_t work; /* out of sn_vtd_execute: what it cost, in list entries looked at */
};

/*
 * Decodes a descriptor of `words` 64-bit words (2 or 4). Pure.
 * SNEST_VTD_QUEUE_OK, _TYPE or _RESERVED.
 */
enum snest_vtd_queue_error sn_vtd_decode(const struct snest_vtd *vtd, const uint64_t *q,
                                         unsigned words, struct sn_vtd_command *command);

/*
 * Executes a command other than a wait. On return it is visible to every later
 * lookup. Without lock, outside read sections. 0; -ETIMEDOUT (device TLB); what
 * a mirror's sink returned.
 */
int sn_vtd_execute(struct snest_vtd *vtd, struct sn_vtd_command *command);

/* ---- vtd_queue.c ------------------------------------------------------------------ */

/* Runs the queue within a budget. Without lock, outside read sections. */
void sn_vtd_queue_run(struct snest_vtd *vtd, uint32_t budget);
/* Whether there is something to fetch now. Under the lock. */
bool sn_vtd_queue_ready(const struct snest_vtd *vtd);

/* Protected memory was turned on or off. Under the lock. */
void sn_vtd_pmen_written(struct snest_vtd *vtd);

/* ---- vtd_event.c -------------------------------------------------------------------- */

/* Raises an event interrupt: sends it, or keeps it pending if masked. Under the lock. */
void sn_vtd_event_raise(struct snest_vtd *vtd, enum sn_vtd_event event);
/* The last reason of an event is gone. Under the lock. */
void sn_vtd_event_clear(struct snest_vtd *vtd, enum sn_vtd_event event);
/* The control register was written. Under the lock. */
void sn_vtd_event_control(struct snest_vtd *vtd, enum sn_vtd_event event);
/* Sets bits of FSTS, with the fault event if there were none. Under the lock. */
void sn_vtd_status_set(struct snest_vtd *vtd, uint64_t bits);
/* FSTS bits were cleared. Under the lock. */
void sn_vtd_status_cleared(struct snest_vtd *vtd);

/* ---- vtd_fault.c --------------------------------------------------------------------- */

uint32_t sn_vtd_frcd_read(const struct snest_vtd *vtd, unsigned offset);
/* A write into the records, `offset` from the first, 4 bytes. Under the lock. */
void sn_vtd_frcd_write(struct snest_vtd *vtd, unsigned offset, uint32_t written);
/*
 * Records a fault with its code filled in, if the configuration lets it be
 * recorded. `pasid` as the request had it. Under the lock.
 */
bool sn_vtd_record(struct snest_vtd *vtd, const struct snest_context *context,
                   const struct snest_request *request, const struct snest_fault *fault);

/* ---- vtd_prq.c ------------------------------------------------------------------------ */

void sn_vtd_prs_written(struct snest_vtd *vtd);
/* Nobody waits for a response any more. Under the lock. */
void sn_vtd_forget_groups(struct snest_vtd *vtd);
/* A response arrived. Whether a request waited for it, which it does no more. Without lock. */
bool sn_vtd_page_response(struct snest_vtd *vtd, uint32_t rid, uint32_t group);

/* ---- vtd_bind.c ----------------------------------------------------------------------- */

void sn_vtd_bind_init(struct snest_vtd *vtd);
void sn_vtd_bind_fini(struct snest_vtd *vtd);

/* Under the lock. */
struct sn_vtd_device *sn_vtd_device_find(const struct snest_vtd *vtd, uint32_t rid);

/* What lookups that find no binding call; see snest_resolve_fn. Known by it are our handles. */
int sn_vtd_resolve(void *opaque, struct snest_device *handle, uint32_t pasid, uint64_t iova,
                   uint32_t access, struct snest_fault *fault);

/*
 * NULL: the handle is not one of this front end, as the embedder's own and other
 * front ends' are in the same index; or is NULL. Inside a read section.
 */
static inline struct sn_vtd_device *sn_vtd_device_of(const struct snest_vtd *vtd,
                                                     const struct snest_device *handle)
{
	struct sn_vtd_device *device;

	if (__builtin_expect(!handle || handle->resolve != sn_vtd_resolve, 0))
		return NULL;
	device = handle->opaque;
	return __builtin_expect(device->vtd == vtd, 1) ? device : NULL;
}

/* Under the lock or inside a read section. */
const struct sn_vtd_binding *sn_vtd_binding_find(const struct sn_vtd_device *device,
                                                 uint32_t pasid);

/* Reads the context of a request from the guest's tables. Under the lock. */
void sn_vtd_context(struct snest_vtd *vtd, const struct snest_request *request,
                    struct snest_context *context);

/*
 * Finds and binds the space of a request. 0, with a reference in *space if
 * space is not NULL; -EACCES with *fault: the configuration refuses; -ENOMEM
 * and the like, *fault filled all the same: it could not be bound now. Under
 * the lock.
 */
int sn_vtd_bind(struct sn_vtd_device *device, uint32_t pasid, uint64_t iova, uint32_t access,
                struct snest_space **space, struct snest_fault *fault);

/* Root or context entries changed, or translation as a whole. Under the lock. */
static inline void sn_vtd_contexts_changed(struct snest_vtd *vtd)
{
	__atomic_store_n(&vtd->generation, vtd->generation + 1, __ATOMIC_RELEASE);
}

/* Unbind what a command selects, or one request. Under the lock. */
void sn_vtd_unbind_request(struct sn_vtd_device *device, uint32_t pasid);
void sn_vtd_unbind_all(struct snest_vtd *vtd);
void sn_vtd_unbind_device(struct snest_vtd *vtd, uint32_t rid, unsigned function_mask);
/* pasid SNEST_ANY_PASID: every one. Returns how many bindings were looked at. */
uint32_t sn_vtd_unbind_domain(struct snest_vtd *vtd, uint32_t did, uint32_t pasid);

/* Marks the DID of first-stage and nested spaces in their tags: ranges mean other things there. */
#define SN_VTD_FIRST_STAGE_DOMAIN 0x10000u

/* ---- vtd_mirror.c ----------------------------------------------------------------------- */

/*
 * Binds the mirrored requests again and switches their sinks to the spaces
 * found. Without lock, outside read sections. The first failure of a sink.
 */
int sn_vtd_mirrors_refresh(struct snest_vtd *vtd);
/* Lets go of the mirrors of a device, NULL: of all. */
void sn_vtd_mirrors_drop(struct snest_vtd *vtd, struct sn_vtd_device *device);

#endif
