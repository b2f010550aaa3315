/* SPDX-License-Identifier: MIT */
/*
 * A small guest with one VT-d unit: tables in a memory image, registers through
 * snest_vtd_read and snest_vtd_write, a log of what the hooks were told. For
 * tests only; include after cmocka.h.
 *
 * It writes tables bit by bit from the manual and does not use the library's
 * writer, so that the two can disagree.
 */
#ifndef VTD_GUEST_H
#define VTD_GUEST_H

#include <sched.h>
#include <time.h>
#include <snest/vtd.h>
#include "support/image.h"

#define G_ROOT 0x1000ull
#define G_QUEUE 0x8000ull /* up to 64 KiB would reach 0x18000 */
#define G_PRQ 0x18000ull
#define G_STATUS 0x1a000ull
#define G_DIRECTORY 0x20000ull /* + 4 KiB a device slot */
#define G_TABLES 0x40000ull    /* bump allocator */
#define G_DATA 0x200000ull
#define G_HOST 0x100000000000ull /* host address of GPA 0, as in image.h */

/* What the recorded Linux guests saw. */
#define G_CAP_CM 0x80d2008c222f0686ull
#define G_CAP_LAZY 0x80d2008c222f0606ull
#define G_CAP_FS 0x81d2008c222f0606ull
#define G_ECAP_ATS 0xf00f4eull
#define G_ECAP 0xf00f4aull
#define G_ECAP_SS 0x480080f00f4aull
#define G_ECAP_FS 0x880000f00f4aull
/* Everything at once: both stages, nested, PASIDs, page requests, device TLBs. */
#define G_CAP_ALL (G_CAP_CM | 1ull << 56)
#define G_ECAP_ALL                                                                       \
	(0xf00f4eull | 1ull << 26 | 1ull << 29 | 1ull << 31 | 19ull << 35 | 1ull << 40 | \
	 1ull << 42 | 1ull << 43 | 1ull << 45 | 1ull << 46 | 1ull << 47 | 1ull << 49)

enum {
	R_VER = 0x00,
	R_CAP = 0x08,
	R_ECAP = 0x10,
	R_GCMD = 0x18,
	R_GSTS = 0x1c,
	R_RTADDR = 0x20,
	R_CCMD = 0x28,
	R_FSTS = 0x34,
	R_FECTL = 0x38,
	R_FEDATA = 0x3c,
	R_FEADDR = 0x40,
	R_FEUADDR = 0x44,
	R_PMEN = 0x64,
	R_PLMBASE = 0x68,
	R_PLMLIMIT = 0x6c,
	R_PHMBASE = 0x70,
	R_PHMLIMIT = 0x78,
	R_IQH = 0x80,
	R_IQT = 0x88,
	R_IQA = 0x90,
	R_ICS = 0x9c,
	R_IECTL = 0xa0,
	R_IEDATA = 0xa4,
	R_IEADDR = 0xa8,
	R_IEUADDR = 0xac,
	R_IQERCD = 0xb0,
	R_IRTA = 0xb8,
	R_PQH = 0xc0,
	R_PQT = 0xc8,
	R_PQA = 0xd0,
	R_PRS = 0xdc,
	R_PECTL = 0xe0,
	R_PEDATA = 0xe4,
	R_PEADDR = 0xe8,
	R_PEUADDR = 0xec,
	R_IVA = 0xf0,
	R_IOTLB = 0xf8,
	R_FRCD = 0x220,
};

#define TE (1u << 31)
#define SRTP (1u << 30)
#define WBF (1u << 27)
#define QIE (1u << 26)
#define IRE (1u << 25)
#define SIRTP (1u << 24)
#define CFI (1u << 23)
#define IM (1u << 31)
#define IP (1u << 30)

struct vtd_guest {
	struct image image;
	struct snest_vtd *vtd;
	uint64_t cap, ecap;
	uint64_t next_table;
	uint64_t tail;  /* bytes */
	unsigned entry; /* 16 or 32 */
	uint64_t queue_size;
	/* What the hooks were told. */
	unsigned msis, kicks, device_tlbs, interrupts, responses;
	uint64_t msi_address;
	uint32_t msi_data;
	struct snest_vtd_device_tlb device_tlb;
	uint32_t interrupt_first, interrupt_last;
	struct snest_vtd_page_response response;
	int device_tlb_result;
};

static void g_msi(void *opaque, uint64_t address, uint32_t data)
{
	struct vtd_guest *g = opaque;

	g->msi_address = address;
	g->msi_data = data;
	__atomic_fetch_add(&g->msis, 1, __ATOMIC_RELEASE);
}

static int g_device_tlb(void *opaque, const struct snest_vtd_device_tlb *range)
{
	struct vtd_guest *g = opaque;

	g->device_tlbs++;
	g->device_tlb = *range;
	return g->device_tlb_result;
}

static void g_interrupts(void *opaque, uint32_t first, uint32_t last)
{
	struct vtd_guest *g = opaque;

	g->interrupts++;
	g->interrupt_first = first;
	g->interrupt_last = last;
}

static void g_response(void *opaque, const struct snest_vtd_page_response *response)
{
	struct vtd_guest *g = opaque;

	g->responses++;
	g->response = *response;
}

static inline void g_create_config(struct vtd_guest *g, const struct snest_vtd_config *base)
{
	struct snest_vtd_hooks hooks = {
		.size = sizeof(hooks),
		.opaque = g,
		.msi = g_msi,
		.device_tlb = g_device_tlb,
		.interrupt_entries = g_interrupts,
		.page_response = g_response,
	};
	struct snest_vtd_config config = *base;
	const char *why = NULL;

	memset(g, 0, sizeof(*g));
	image_create(&g->image, true);
	g->next_table = G_TABLES;
	g->cap = config.cap;
	g->ecap = config.ecap;
	if (!config.hooks)
		config.hooks = &hooks;
	if (snest_vtd_create(g->image.vm, &config, &g->vtd, &why))
		fail_msg("snest_vtd_create: %s", why);
}

static inline void g_create(struct vtd_guest *g, uint64_t cap, uint64_t ecap, uint32_t flags)
{
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.flags = SNEST_VTD_RAW | flags,
		.cap = cap,
		.ecap = ecap,
	};

	g_create_config(g, &config);
}

static inline void g_destroy(struct vtd_guest *g)
{
	snest_vtd_destroy(g->vtd);
	image_destroy(&g->image);
}

/* ---- Registers ------------------------------------------------------------ */

static inline uint64_t g_read(struct vtd_guest *g, uint64_t offset, unsigned size)
{
	uint64_t value;

	assert_int_equal(snest_vtd_read(g->vtd, offset, size, &value), 0);
	return value;
}

static inline void g_write(struct vtd_guest *g, uint64_t offset, unsigned size, uint64_t value)
{
	assert_int_equal(snest_vtd_write(g->vtd, offset, size, value), 0);
}

/* Polls `bits` of a register until they are `value`; fails after 10 s. */
static inline void g_poll(struct vtd_guest *g, uint64_t offset, unsigned size, uint64_t bits,
                          uint64_t value)
{
	time_t until = time(NULL) + 10;

	while ((g_read(g, offset, size) & bits) != value) {
		if (time(NULL) > until)
			fail_msg("register 0x%x does not become 0x%llx", (unsigned)offset,
			         (unsigned long long)value);
		snest_thread_quiescent();
		sched_yield();
	}
}

/* One command bit through GCMD and its handshake, as drivers do it. */
static inline void g_command(struct vtd_guest *g, uint32_t bit, bool on)
{
	/* One-shot commands are not written again from GSTS. */
	uint32_t state = (uint32_t)g_read(g, R_GSTS, 4) & ~(SRTP | SIRTP | WBF);

	g_write(g, R_GCMD, 4, on ? state | bit : state & ~bit);
	g_poll(g, R_GSTS, 4, bit, on ? bit : 0);
}

static inline void g_set_root(struct vtd_guest *g, uint64_t rtaddr)
{
	g_write(g, R_RTADDR, 8, rtaddr);
	g_command(g, SRTP, true);
}

/* ---- Queue -------------------------------------------------------------------- */

static inline void g_queue_on(struct vtd_guest *g, unsigned qs, bool wide)
{
	g->entry = wide ? 32 : 16;
	g->queue_size = 4096ull << qs;
	g->tail = 0;
	g_write(g, R_IQT, 8, 0);
	g_write(g, R_IQA, 8, G_QUEUE | (wide ? 1u << 11 : 0) | qs);
	g_command(g, QIE, true);
}

/* Puts a descriptor at the tail; does not ring. */
static inline void g_put4(struct vtd_guest *g, uint64_t q0, uint64_t q1, uint64_t q2, uint64_t q3)
{
	uint64_t at = G_QUEUE + g->tail;

	image_put(&g->image, at, q0);
	image_put(&g->image, at + 8, q1);
	if (g->entry == 32) {
		image_put(&g->image, at + 16, q2);
		image_put(&g->image, at + 24, q3);
	}
	g->tail = (g->tail + g->entry) % g->queue_size;
}

static inline void g_put(struct vtd_guest *g, uint64_t q0, uint64_t q1)
{
	g_put4(g, q0, q1, 0, 0);
}

static inline void g_ring(struct vtd_guest *g)
{
	g_write(g, R_IQT, 4, g->tail);
}

static inline uint32_t g_status(struct vtd_guest *g, unsigned slot)
{
	uint32_t *at = (uint32_t *)((char *)g->image.words + G_STATUS) + slot;

	return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

static inline void g_set_status(struct vtd_guest *g, unsigned slot, uint32_t value)
{
	uint32_t *at = (uint32_t *)((char *)g->image.words + G_STATUS) + slot;

	__atomic_store_n(at, value, __ATOMIC_RELEASE);
}

static inline void g_poll_status(struct vtd_guest *g, unsigned slot, uint32_t value)
{
	time_t until = time(NULL) + 10;

	while (g_status(g, slot) != value) {
		if (time(NULL) > until)
			fail_msg("status %u does not become %u", slot, value);
		snest_thread_quiescent();
		sched_yield();
	}
}

#define WAIT_SW (5ull | 1ull << 5)
#define WAIT_IF (5ull | 1ull << 4)
#define WAIT_FN (1ull << 6)

static inline void g_put_wait(struct vtd_guest *g, unsigned slot, uint32_t value, uint64_t flags)
{
	g_put(g, WAIT_SW | flags | (uint64_t)value << 32, G_STATUS + slot * 4);
}

/* One descriptor and its wait, to the end. */
static inline void g_submit(struct vtd_guest *g, uint64_t q0, uint64_t q1)
{
	g_set_status(g, 0, 1);
	g_put(g, q0, q1);
	g_put_wait(g, 0, 2, 0);
	g_ring(g);
	g_poll_status(g, 0, 2);
}

/* Descriptors. */
#define D_CC(g_, did, sid, fm)                                                        \
	(1ull | (uint64_t)(g_) << 4 | (uint64_t)(did) << 16 | (uint64_t)(sid) << 32 | \
	 (uint64_t)(fm) << 48)
#define D_IOTLB(g_, did) (2ull | (uint64_t)(g_) << 4 | (uint64_t)(did) << 16)
#define D_PIOTLB(g_, did, pasid) \
	(6ull | (uint64_t)(g_) << 4 | (uint64_t)(did) << 16 | (uint64_t)(pasid) << 32)
#define D_PC(g_, did, pasid) \
	(7ull | (uint64_t)(g_) << 4 | (uint64_t)(did) << 16 | (uint64_t)(pasid) << 32)

/* ---- Tables --------------------------------------------------------------------- */

static inline uint64_t g_table(struct vtd_guest *g)
{
	uint64_t at = g->next_table;

	assert_true(at < G_DATA);
	g->next_table += 4096;
	return at;
}

/* The context table of a bus, made when needed; scalable: of half a bus. */
static inline uint64_t g_context_table(struct vtd_guest *g, uint32_t rid, bool scalable)
{
	uint64_t at = G_ROOT + (rid >> 8) * 16 + (scalable && (rid & 0x80) ? 8 : 0);

	if (!(image_get(&g->image, at) & 1))
		image_put(&g->image, at, g_table(g) | 1);
	return image_get(&g->image, at) & ~0xfffull;
}

/* Legacy context entry: 48 bits, second stage. */
static inline void g_context(struct vtd_guest *g, uint32_t rid, uint32_t did, uint64_t root)
{
	uint64_t at = g_context_table(g, rid, false) + (rid & 0xff) * 16;

	image_put(&g->image, at + 8, 2 | (uint64_t)did << 8);
	image_put(&g->image, at, root | 1);
}

static inline uint64_t g_context_at(struct vtd_guest *g, uint32_t rid)
{
	return g_context_table(g, rid, false) + (rid & 0xff) * 16;
}

/* Scalable context entry: PASIDE, DTE, PRE; a directory of 128 entries; RID_PASID. */
static inline void g_scalable_context(struct vtd_guest *g, uint32_t rid, uint32_t rid_pasid)
{
	uint64_t at = g_context_table(g, rid, true) + (rid & 0x7f) * 32;
	uint64_t flags =
		(g->ecap >> 40 & 1) << 3 | (g->ecap >> 2 & 1) << 2 | (g->ecap >> 29 & 1) << 4;

	image_put(&g->image, at + 8, rid_pasid);
	image_put(&g->image, at, g_table(g) | 1 | flags);
}

static inline uint64_t g_pasid_at(struct vtd_guest *g, uint32_t rid, uint32_t pasid)
{
	uint64_t context = g_context_table(g, rid, true) + (rid & 0x7f) * 32;
	uint64_t at = (image_get(&g->image, context) & ~0xfffull) + (pasid >> 6) * 8;

	if (!(image_get(&g->image, at) & 1))
		image_put(&g->image, at, g_table(g) | 1);
	return (image_get(&g->image, at) & ~0xfffull) + (pasid & 63) * 64;
}

enum {
	PGTT_FIRST = 1,
	PGTT_SECOND = 2,
	PGTT_NESTED = 3,
	PGTT_PASS = 4
};

/* PASID entry; AW 2 (48 bits, 4 levels). */
static inline void g_pasid(struct vtd_guest *g, uint32_t rid, uint32_t pasid, unsigned pgtt,
                           uint32_t did, uint64_t first_root, uint64_t second_root)
{
	uint64_t at = g_pasid_at(g, rid, pasid);

	image_put(&g->image, at + 8, did);
	image_put(&g->image, at + 16, first_root | (first_root ? 1 : 0));
	image_put(&g->image, at, second_root | 2ull << 2 | (uint64_t)pgtt << 6 | 1);
}

/* Maps one page of 2^lg2 bytes in a 4-level table. bits: of the leaf; link: of table entries. */
static inline void g_map_bits(struct vtd_guest *g, uint64_t root, uint64_t input, uint64_t output,
                              unsigned lg2, uint64_t leaf, uint64_t link)
{
	uint64_t at = root;

	for (unsigned shift = 39;; shift -= 9) {
		uint64_t slot = at + (input >> shift & 0x1ff) * 8;

		if (shift == lg2) {
			image_put(&g->image, slot, output | leaf | (lg2 > 12 ? 0x80 : 0));
			return;
		}
		if (!(image_get(&g->image, slot) & 3))
			image_put(&g->image, slot, g_table(g) | link);
		at = image_get(&g->image, slot) & 0x000ffffffffff000ull;
	}
}

/* Second stage: R 1, W 2. */
static inline void g_map(struct vtd_guest *g, uint64_t root, uint64_t iova, uint64_t gpa,
                         unsigned lg2, uint64_t rights)
{
	g_map_bits(g, root, iova, gpa, lg2, rights, 3);
}

/* First stage: P, R/W, U/S, A, D. */
static inline void g_map_first(struct vtd_guest *g, uint64_t root, uint64_t iova, uint64_t gpa,
                               unsigned lg2, bool write)
{
	g_map_bits(g, root, iova, gpa, lg2, 0x65 | (write ? 2 : 0), 0x27);
}

/* The slot of a page that g_map has mapped. */
static inline uint64_t g_leaf_at(struct vtd_guest *g, uint64_t root, uint64_t input, unsigned lg2)
{
	uint64_t at = root;

	for (unsigned shift = 39; shift != lg2; shift -= 9)
		at = image_get(&g->image, at + (input >> shift & 0x1ff) * 8) &
		     0x000ffffffffff000ull;
	return at + (input >> lg2 & 0x1ff) * 8;
}

/* ---- Requests --------------------------------------------------------------------- */

/* The GPA that a request reaches, UINT64_MAX and *fault if it is refused. */
static inline uint64_t g_request(struct vtd_guest *g, uint32_t rid, uint32_t pasid, uint64_t iova,
                                 uint32_t access, struct snest_fault *fault)
{
	struct snest_translation t;
	uint64_t gpa = UINT64_MAX;
	int ret;

	snest_read_begin();
	ret = snest_vtd_translate(g->vtd, rid, pasid, iova, access, &t, fault);
	if (!ret)
		gpa = t.outcome == SNEST_WALK_HOST ? t.host - G_HOST : t.host;
	else
		assert_int_equal(ret, -EACCES);
	snest_read_end();
	return gpa;
}

static inline uint64_t g_dma(struct vtd_guest *g, uint32_t rid, uint64_t iova, uint32_t access)
{
	return g_request(g, rid, SNEST_NO_PASID, iova, access, NULL);
}

/* Legacy mode with a queue and translation on; one device mapped to `root`. */
static inline void g_start_legacy(struct vtd_guest *g, uint32_t rid, uint32_t did, uint64_t *root)
{
	*root = g_table(g);
	g_context(g, rid, did, *root);
	g_set_root(g, G_ROOT);
	g_queue_on(g, 0, false);
	g_command(g, TE, true);
}

static inline void g_start_scalable(struct vtd_guest *g)
{
	g_set_root(g, G_ROOT | 1ull << 10);
	g_queue_on(g, 0, true);
	g_command(g, TE, true);
}

/* ---- Ready-made guests ------------------------------------------------------------ */

#define G_RID 0x18u
#define G_DID 7u
#define G_IOVA 0x5000ull
#define G_PASID 0x45u

/* Legacy mode, one device, one page mapped at G_IOVA. */
struct legacy {
	struct vtd_guest g;
	uint64_t root, leaf;
	unsigned turn;
};

static inline void legacy_start(struct legacy *l, uint64_t cap, uint64_t ecap)
{
	memset(l, 0, sizeof(*l));
	g_create(&l->g, cap, ecap, 0);
	g_start_legacy(&l->g, G_RID, G_DID, &l->root);
	g_map(&l->g, l->root, G_IOVA, G_DATA, 12, 3);
	l->leaf = g_leaf_at(&l->g, l->root, G_IOVA, 12);
}

/* Scalable mode with everything, one device, its tables empty. */
struct scalable {
	struct vtd_guest g;
	uint64_t first, second;
};

static inline void scalable_start(struct scalable *s)
{
	memset(s, 0, sizeof(*s));
	g_create(&s->g, G_CAP_ALL, G_ECAP_ALL, 0);
	s->first = g_table(&s->g);
	s->second = g_table(&s->g);
	g_scalable_context(&s->g, G_RID, 0);
	g_start_scalable(&s->g);
}

static inline uint64_t scalable_dma(struct scalable *s, uint32_t pasid, uint64_t iova)
{
	return g_request(&s->g, G_RID, pasid, iova, SNEST_READ, NULL);
}

#endif
