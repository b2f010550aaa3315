/* SPDX-License-Identifier: MIT */
/*
 * The VT-d front end: one emulated remapping unit.
 *
 * Two ways in, one implementation. A VMM without an emulated IOMMU maps the
 * 4 KiB register page to snest_vtd_read and snest_vtd_write. A VMM that
 * emulates the registers itself hands over the root pointer
 * (snest_vtd_set_root, snest_vtd_enable) and raw descriptors
 * (snest_vtd_invalidate).
 *
 * Devices are handles of snest/space.h, made by snest_vtd_device: they find
 * their space through the guest's tables on the first request, and again after
 * an invalidation took it away. snest_vtd_translate adds to a lookup what
 * belongs to the unit: the interrupt address range and fault records.
 *
 * Completion. A wait descriptor's status is written, and a handshake bit of a
 * register command changes, only after no lookup can use what was invalidated
 * before (a drain, snest/space.h). Nobody waits for that: it happens on snest's
 * background thread, in the order of the commands; or, where it can be seen at
 * once that there is no such lookup, before the write to the queue returns. IQH passes a wait when the
 * wait is fetched; only a fence (FN) holds the queue until it completes.
 *
 * Threads. Any function may be called by any thread, not inside a read section
 * unless it says so. Hooks are called without locks of snest held, by the
 * thread that caused them or by the background thread.
 *
 * Interrupt remapping is not emulated: its registers and handshakes work, and
 * invalidations of interrupt entries are handed to a hook.
 * Architecture: "VT-d" in docs/architecture.md.
 */
#ifndef SNEST_VTD_H
#define SNEST_VTD_H

#include <snest/space.h>
#include <snest/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

struct snest_vtd;

/* ---- What the front end tells the embedder ------------------------------- */

/* A range of a device's own TLB that the guest wants forgotten. */
struct snest_vtd_device_tlb {
	uint32_t rid;
	uint32_t pasid;  /* SNEST_NO_PASID: translations without PASID */
	uint32_t global; /* 1: translations of every PASID */
	uint32_t reserved;
	uint64_t first, last;
};

struct snest_vtd_page_response {
	uint32_t rid;
	uint32_t pasid; /* or SNEST_NO_PASID */
	uint32_t group; /* page request group index, 9 bits */
	uint32_t code;  /* SNEST_VTD_RESPONSE_* or another value of 4 bits */
	uint32_t last;  /* LPIG as the response carries it */
	uint32_t private_valid;
	uint64_t private_data[2];
	/*
	 * 1: a request with `last` of this group waits for it. 0: none that
	 * this front end has seen since it was created or restored.
	 */
	uint32_t expected;
	uint32_t reserved;
};
#define SNEST_VTD_RESPONSE_SUCCESS 0x0u
#define SNEST_VTD_RESPONSE_INVALID 0x1u
#define SNEST_VTD_RESPONSE_FAILURE 0xfu

/* Every hook may be NULL. */
struct snest_vtd_hooks {
	size_t size; /* sizeof(struct snest_vtd_hooks) */
	void *opaque;
	/* Sends a message signalled interrupt. Also called inside snest_vtd_translate. */
	void (*msi)(void *opaque, uint64_t address, uint32_t data);
	/*
	 * The invalidation queue has more work than one call may do: call
	 * snest_vtd_run soon, from any thread but not from here. NULL: snest's
	 * background thread goes on by itself.
	 */
	void (*kick)(void *opaque);
	/*
	 * The device's TLB must not hold the range any more on return.
	 * -ETIMEDOUT: the device did not answer, which stops the queue with
	 * ITE. Other errors count as success. NULL: no device has a TLB.
	 */
	int (*device_tlb)(void *opaque, const struct snest_vtd_device_tlb *range);
	/* Interrupt entries first..last (indexes) changed; 0..65535 for all. */
	void (*interrupt_entries)(void *opaque, uint32_t first, uint32_t last);
	void (*page_response)(void *opaque, const struct snest_vtd_page_response *response);
};

/* ---- Creation -------------------------------------------------------------- */

/* config.features */
#define SNEST_VTD_CACHING_MODE 0x1u          /* CM: the guest announces second-stage maps */
#define SNEST_VTD_QUEUE 0x2u                 /* QI */
#define SNEST_VTD_DEVICE_TLB 0x4u            /* DT; needs QUEUE */
#define SNEST_VTD_PASS_THROUGH 0x8u          /* PT */
#define SNEST_VTD_SNOOP 0x10u                /* SC */
#define SNEST_VTD_PAGE_2M 0x20u              /* second stage */
#define SNEST_VTD_PAGE_1G 0x40u              /* second stage; needs PAGE_2M */
#define SNEST_VTD_SCALABLE 0x80u             /* SMTS; needs QUEUE and a stage */
#define SNEST_VTD_FIRST_STAGE 0x100u         /* FSTS; needs SCALABLE */
#define SNEST_VTD_SECOND_STAGE 0x200u        /* SSTS; needs SCALABLE. Legacy mode always has it */
#define SNEST_VTD_NESTED 0x400u              /* NEST; needs both stages */
#define SNEST_VTD_FIRST_1G 0x800u            /* FS1GP */
#define SNEST_VTD_FIRST_5LEVEL 0x1000u       /* FS5LP */
#define SNEST_VTD_SECOND_AD 0x2000u          /* SSADS: accessed and dirty in the second stage */
#define SNEST_VTD_EXTENDED_A 0x4000u         /* EAFS */
#define SNEST_VTD_SUPERVISOR 0x8000u         /* SRS: privileged requests */
#define SNEST_VTD_PAGE_REQUESTS 0x10000u     /* PRS; needs DEVICE_TLB and SCALABLE */
#define SNEST_VTD_RID_PASID 0x20000u         /* RPS */
#define SNEST_VTD_PROTECTED_MEMORY 0x40000u  /* PLMR, PHMR */
#define SNEST_VTD_INTERRUPTS 0x80000u        /* IR, EIM: registers and handshakes only */
#define SNEST_VTD_SRTP_INVALIDATES 0x100000u /* ESRTPS */
#define SNEST_VTD_COHERENT 0x200000u         /* C */

/* config.flags */
#define SNEST_VTD_RAW 0x1u /* cap and ecap are given; the fields that compose them are 0 */
/*
 * Waits and handshakes complete before the register write returns, which then
 * blocks in a drain. For replay and for VMMs that process queues on a thread
 * of their own. One write executes at most a whole ring of the largest size;
 * without a kick hook the rest waits for the next write or snest_vtd_run.
 */
#define SNEST_VTD_SYNC 0x2u

struct snest_vtd_config {
	size_t size;       /* sizeof(struct snest_vtd_config) */
	uint32_t flags;    /* SNEST_VTD_RAW, SNEST_VTD_SYNC */
	uint32_t version;  /* VER: major * 16 + minor; 0: 1.0 */
	uint32_t haw_bits; /* host address width, as the guest's DMAR table says; 0: the guest's */
	uint32_t features; /* SNEST_VTD_* above */
	uint32_t address_bits;   /* 39, 48 or 57: MGAW, and the deepest tables; 0: 48 */
	uint32_t domain_bits;    /* 4, 6 ... 16; 0: 16 */
	uint32_t pasid_bits;     /* 1 to 20; 0: no PASIDs */
	uint32_t fault_records;  /* 1 to 222; 0: 1 */
	uint32_t page_mask_bits; /* MAMV: largest AM of a page-selective command; 0: 18 */
	uint32_t budget;         /* descriptors that one call processes; 0: 256 */
	uint32_t bindings_max;   /* (device, PASID) pairs remembered at once; 0: 65536 */
	uint64_t cap, ecap;      /* with RAW */
	const struct snest_vtd_hooks *hooks; /* copied; NULL: none */
	/* Of each space, as in struct snest_space_config; 0: as there. */
	uint64_t table_bytes_max;
	uint64_t sync_entries_max;
};

/*
 * Creates a front end, which its VM outlives. config NULL: legacy mode, 48 bits,
 * queued invalidation, caching mode. If why is not NULL, *why is a static English
 * sentence on -EINVAL and -EOPNOTSUPP. A VM may have several front ends, each
 * with its own requesters; a global invalidation of one reaches all of them.
 * Errors: -EINVAL (contradiction, or reserved bits), -EOPNOTSUPP (a capability
 * that is not emulated), -E2BIG, -ENOMEM.
 */
SNEST_API int snest_vtd_create(struct snest_vm *vm, const struct snest_vtd_config *config,
                               struct snest_vtd **vtd, const char **why);

/*
 * Destroys the front end, its devices and mirrors. Waits for commands in
 * flight, so not from a hook; no pin may be held for ever. The caller stops using
 * it, and its devices, first. NULL is ignored.
 */
SNEST_API void snest_vtd_destroy(struct snest_vtd *vtd);

/* ---- Registers --------------------------------------------------------------- */

/*
 * The register page. Any offset and any size from 1 to 8 is defined: each
 * register sees the bytes that fall into it, the lower register first, after
 * all bytes are stored. What is beside a register, and beyond 4 KiB, reads as 0
 * and ignores writes. So do registers whose capability is not announced.
 * Reads also inside a read section. A write executes what it started, up to the
 * budget of descriptors, and never waits for readers but with SNEST_VTD_SYNC.
 * Errors: -EINVAL (size), with *value 0. VT-d: Register Descriptions.
 */
SNEST_API int snest_vtd_read(struct snest_vtd *vtd, uint64_t offset, unsigned size,
                             uint64_t *value);
SNEST_API int snest_vtd_write(struct snest_vtd *vtd, uint64_t offset, unsigned size,
                              uint64_t value);

/*
 * Goes on with the queue, for up to the budget: what a kick hook has somebody
 * call. If another thread runs the queue, it is left to that one.
 * Returns 0, or -EAGAIN: there is more.
 */
SNEST_API int snest_vtd_run(struct snest_vtd *vtd);

/* ---- Commands, for VMMs that emulate the registers ----------------------------- */

/*
 * Latches a root pointer, bits 11:10 being the mode: what SRTP does. All
 * devices find their spaces anew. With ESRTPS everything cached goes too. On
 * return every later lookup uses the new root; the caller drains before it
 * tells the guest. A mode that the architecture does not know faults with reason
 * 30h on every request. Errors: what a mirror's sink returned; the root is
 * latched all the same. VT-d: Root Table Address Register.
 */
SNEST_API int snest_vtd_set_root(struct snest_vtd *vtd, uint64_t rtaddr);
/* Turns translation on or off (GCMD.TE); off is pass-through for all. As above. */
SNEST_API int snest_vtd_enable(struct snest_vtd *vtd, bool enable);

/* Why a descriptor was refused: the codes of IQERCD.IQEI. */
enum snest_vtd_queue_error {
	SNEST_VTD_QUEUE_OK = 0,
	SNEST_VTD_QUEUE_TAIL = 1,     /* tail beyond the queue */
	SNEST_VTD_QUEUE_FETCH = 2,    /* descriptor not in memory */
	SNEST_VTD_QUEUE_TYPE = 3,     /* unknown type */
	SNEST_VTD_QUEUE_RESERVED = 4, /* reserved bit or encoding */
	SNEST_VTD_QUEUE_WIDTH = 5,    /* descriptor width does not fit the mode */
	SNEST_VTD_QUEUE_ALIGN = 6,    /* tail not aligned to 256 bits */
	SNEST_VTD_QUEUE_MODE = 7,     /* root pointer mode is invalid */
};

/*
 * Executes *count raw descriptors of entry_len bytes each: 16, or 32 and more
 * (what is beyond 32 must be 0). *count becomes the number that was handled,
 * on errors too, where it is the index of the bad one; *error, if not NULL,
 * says why. Handled means visible to every later lookup; completion is the
 * caller's: drain, then write the status. So wait descriptors are checked,
 * counted, and do nothing. *count 0 is a probe and succeeds. Several threads may
 * call this at once; each call's descriptors take effect in their order.
 * Errors: -EINVAL (a bad descriptor; entries NULL or entry_len too small),
 * -E2BIG, -ETIMEDOUT (a device TLB), or what a mirror's sink returned: that
 * descriptor was executed but its sink lacks something, and *count includes it.
 */
SNEST_API int snest_vtd_invalidate(struct snest_vtd *vtd, const void *entries, size_t entry_len,
                                   size_t *count, enum snest_vtd_queue_error *error);

/* ---- Devices ------------------------------------------------------------------- */

/*
 * The handle of requester `rid` (16 bits) behind this unit, made if there is
 * none. It lives until snest_vtd_remove. Also inside a read section.
 * Errors: -EINVAL (rid), -EEXIST (the rid exists elsewhere in the VM), -ENOMEM.
 */
SNEST_API int snest_vtd_device(struct snest_vtd *vtd, uint32_t rid, struct snest_device **device);

/*
 * Destroys the handle, and its mirrors: hot unplug. The caller stops using the
 * handle, and asking for this rid, first. Errors: -ENOENT.
 */
SNEST_API int snest_vtd_remove(struct snest_vtd *vtd, uint32_t rid);

/*
 * Keeps `sink` equal to what requests of rid (with pasid, or without) may
 * reach: populates it now, and switches it to another space whenever the guest
 * changes the device's configuration. A configuration that is absent or wrong
 * is an empty sink. When a switch fails, sink->failed is told, the sink is
 * empty, and the next configuration command tries again.
 * Errors: -EBUSY (mirrored already), -EOPNOTSUPP (the guest does not announce
 * maps of this space), -EEXIST, -EINVAL, -E2BIG, -ENOMEM; what apply returned.
 */
SNEST_API int snest_vtd_mirror(struct snest_vtd *vtd, uint32_t rid, uint32_t pasid,
                               const struct snest_sink *sink);
/* Empties the sink and lets it go. Errors: -ENOENT; what apply returned, the sink is gone anyway. */
SNEST_API int snest_vtd_unmirror(struct snest_vtd *vtd, uint32_t rid, uint32_t pasid);

/* ---- Requests and faults ---------------------------------------------------------- */

/*
 * Translates as snest_translate_pasid does, and what the unit adds: the
 * interrupt address range, privilege from RID_PRIV, the width of pass-through,
 * protected memory, and the record of a fault (fault->code is its reason).
 * Needed for requests that carry SNEST_PRIVILEGED or SNEST_EXEC; for others
 * the plain lookup is the fast path, with faults given to snest_vtd_fault.
 * A write into the interrupt range 0xfee00000..0xfeefffff without PASID is an
 * interrupt: outcome SNEST_WALK_GPA with that address.
 * Inside a read section. A hit takes no lock, a privileged one neither; what is
 * refused does, and may send the fault event through the msi hook.
 * Returns 0 or -EACCES, as there, or what snest_vtd_device returns.
 */
SNEST_API int snest_vtd_translate(struct snest_vtd *vtd, uint32_t rid, uint32_t pasid,
                                  uint64_t iova, uint32_t access,
                                  struct snest_translation *translation, struct snest_fault *fault);

/*
 * Records a fault that a plain lookup gave, unless the configuration
 * suppresses it (FPD) or it is none of the guest's. Fills fault->code.
 * Returns whether it was recorded. Also inside a read section. May send the fault
 * event through the msi hook. VT-d: Primary Fault Logging.
 */
SNEST_API bool snest_vtd_fault(struct snest_vtd *vtd, uint32_t rid, uint32_t pasid, uint32_t access,
                               struct snest_fault *fault);

/* ---- Devices with a TLB of their own (ATS) ------------------------------------------ */

/* How a translation request completes: PCIe's completion status. */
enum snest_vtd_completion {
	SNEST_VTD_COMPLETION_SUCCESS = 0,
	SNEST_VTD_COMPLETION_UNSUPPORTED = 1, /* the guest does not allow it */
	SNEST_VTD_COMPLETION_ABORT = 4,       /* the guest's tables are wrong */
};

struct snest_vtd_ats_request {
	uint32_t rid;
	uint32_t pasid; /* or SNEST_NO_PASID */
	/*
	 * Wanted: SNEST_READ; with SNEST_WRITE unless the device sets "no
	 * write"; SNEST_EXEC; SNEST_PRIVILEGED.
	 */
	uint32_t access;
	uint32_t pages; /* how many 4 KiB pages from iova on, at least 1 */
	uint64_t iova;
};

#define SNEST_VTD_ATS_UNTRANSLATED 0x1u /* U: the device must send untranslated requests */
#define SNEST_VTD_ATS_SNOOP 0x2u        /* N: translated requests must not ask for "no snoop" */
#define SNEST_VTD_ATS_PRIVILEGED 0x4u   /* for privileged requests only */

/* What a device may put into its TLB: one naturally aligned power of two of bytes. */
struct snest_vtd_ats_entry {
	uint64_t first, last; /* IOVA; may begin before and end behind what was asked for */
	uint64_t gpa;         /* where `first` leads to: the translated address */
	uint32_t rights;      /* SNEST_READ, _WRITE, _EXEC as far as wanted; 0: nothing is there */
	uint32_t flags;       /* SNEST_VTD_ATS_* */
};

/*
 * A translation request. *count: in, the entries that there is room for, at
 * least 1; out, those that were filled, in the order of IOVAs, without gaps: 0
 * unless *completion is SUCCESS. Stops before the first page without rights or
 * with a fault, but for the very first page: then its one entry has no rights,
 * and the device may send a page request (snest_vtd_page_request).
 *
 * Accessed flags are set, and dirty flags where SNEST_WRITE is granted. Missing
 * rights are not recorded as faults. Of other faults those are that the
 * architecture reports for translation requests, unless FPD is set.
 *
 * An entry is the device's until the device_tlb hook names it. The hook runs on
 * another thread, so the caller holds the lock that its hook takes too from
 * before this call until the entries are in the device's TLB: then either the
 * hook finds them, or the request has seen what the guest announces.
 *
 * Any thread, also inside a read section. May take the front end's lock.
 * Errors: -EINVAL (rid, pasid, access, pages or *count), -EOPNOTSUPP (no
 * DEVICE_TLB). VT-d: translation requests; PCIe: Address Translation Services.
 */
SNEST_API int snest_vtd_ats_request(struct snest_vtd *vtd,
                                    const struct snest_vtd_ats_request *request,
                                    struct snest_vtd_ats_entry *entries, size_t *count,
                                    enum snest_vtd_completion *completion);

/*
 * A translated request: `gpa` is an address from an entry above, `access` what
 * the entry allows. Refused when the configuration does not let this device
 * send them (recorded), when translation is off, and into the interrupt
 * address range. Which pages the device was given is the device's to know.
 * Inside a read section, where *translation is valid. A hit takes no lock.
 * Returns 0, or -EACCES with *fault if that is not NULL. Errors: -EOPNOTSUPP (no
 * DEVICE_TLB), and those of snest_vtd_device.
 */
SNEST_API int snest_vtd_translated(struct snest_vtd *vtd, uint32_t rid, uint64_t gpa,
                                   uint32_t access, struct snest_translation *translation,
                                   struct snest_fault *fault);

/*
 * The device sent an invalidation completion that nobody waits for, or a
 * malformed one: sets FSTS.ICE and IQERCD.ICESID, with the fault event. The
 * queue goes on; a device that does not complete at all is the device_tlb hook's
 * -ETIMEDOUT. Any thread. Errors: -EINVAL (rid), -EOPNOTSUPP (no DEVICE_TLB).
 */
SNEST_API int snest_vtd_completion_error(struct snest_vtd *vtd, uint32_t rid);

/* ---- Page requests ------------------------------------------------------------------- */

/*
 * A recoverable fault: queues a page request. access: SNEST_READ, _WRITE,
 * _EXEC, _PRIVILEGED. When the queue is full the device is answered through the
 * page_response hook if the request is the last of its group.
 */
struct snest_vtd_page_request {
	uint32_t rid;
	uint32_t pasid; /* or SNEST_NO_PASID */
	uint32_t access;
	uint32_t group; /* 9 bits */
	uint32_t last;  /* last of its group: wants a response */
	uint32_t private_valid;
	uint64_t iova;
	uint64_t private_data[2];
};
/*
 * The response comes through the page_response hook, maybe before this returns.
 * Any thread, also inside a read section.
 * Errors: -EOPNOTSUPP (no PRS), -EINVAL (rid, pasid, group, access), -EACCES (the
 * configuration refuses page requests; recorded), -ENOSPC (queue full),
 * -EFAULT (queue not in memory), and those of snest_vtd_device.
 */
SNEST_API int snest_vtd_page_request(struct snest_vtd *vtd,
                                     const struct snest_vtd_page_request *request);

/* ---- Migration --------------------------------------------------------------------- */

/*
 * The whole guest-visible state as a blob. *length: in, the bytes at buf; out,
 * the bytes of the blob. buf NULL or too small: -ENOSPC with *length set.
 * Waits until commands in flight have completed, so no pin may be held for
 * ever. Descriptors not yet fetched stay in the guest's queue, and nothing is
 * executed afterwards that the blob does not know of: a VMM that lets its guest
 * go on calls snest_vtd_run. The guest's vCPUs are stopped meanwhile. Not part
 * of it: which page requests wait for a response (the devices know), bindings,
 * shadows, mirrors, statistics. Any thread, not inside a read section.
 * Errors: -ENOSPC.
 */
SNEST_API int snest_vtd_save(struct snest_vtd *vtd, void *buf, size_t *length);

/*
 * Takes over a saved state. The front end has the same capabilities. Spaces
 * are found and filled anew, mirrors populated, the queue goes on. A mirror that
 * fails is told through its sink. Any thread, not inside a read section.
 * Errors: -EINVAL (not a blob of this version and these capabilities, or
 * damaged), with nothing changed.
 */
SNEST_API int snest_vtd_restore(struct snest_vtd *vtd, const void *buf, size_t length);

/* ---- Statistics ---------------------------------------------------------------------- */

/* Totals so far unless they say "now". */
struct snest_vtd_stats {
	size_t size;          /* sizeof(struct snest_vtd_stats), set by the caller */
	uint64_t descriptors; /* executed from the queue */
	uint64_t waits;
	uint64_t drains; /* begun for waits and handshakes */
	uint64_t queue_errors;
	uint64_t faults; /* refused requests that the unit would report */
	uint64_t faults_recorded;
	uint64_t faults_lost; /* overflow */
	uint64_t page_requests;
	uint64_t page_requests_lost;
	uint64_t bindings; /* now */
	uint64_t binds;    /* so far */
	uint64_t page_responses;
	uint64_t page_responses_unexpected; /* of them, to no request that was seen */
};
/* Fills *stats. Any thread. Errors: -EINVAL (size), -E2BIG. */
SNEST_API int snest_vtd_stats(struct snest_vtd *vtd, struct snest_vtd_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
