/* SPDX-License-Identifier: MIT */
/*
 * What all benchmarks start from: a guest with RAM, tables, a space, a device.
 *
 * The guest maps `leaves` leaves of one size densely from IOVA 0. Their host
 * addresses are a random permutation of one cycle, so that nothing is
 * contiguous, and so that an IOVA made from the host address that was found
 * last visits all of them: a pointer chase. Tables are written by snest_table
 * into the guest's own RAM. Nothing here is part of a measurement.
 */
#ifndef BENCH_SETUP_H
#define BENCH_SETUP_H

#include <stddef.h>
#include <snest/space.h>
#include <snest/table.h>

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define PAGE ((uint64_t)4096)
#define RW (SNEST_READ | SNEST_WRITE)
#define FLAGS_RW (SNEST_ATTR_ACCESSED | SNEST_ATTR_DIRTY | SNEST_ATTR_USER)

/* Ends the program when a step of the set-up fails. */
void must(int ret, const char *what);
void *must_alloc(size_t size, size_t align);
/* Zeroed memory in huge pages where there are some; freed with munmap. */
void *must_map(size_t size);
void unmap(void *memory, size_t size);

/* Monotonic time, ns. */
uint64_t now_ns(void);

/*
 * Random numbers of 32 bits. One number hardly waits for the one before, so that
 * a loop over them is bounded by what it does with them.
 */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t mixed = *state += 0x9e3779b97f4a7c15ull;

	return ((mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9ull) >> 32;
}

/* A random number below n, n < 2^32. */
static inline uint64_t random_below(uint64_t *state, uint64_t n)
{
	return random_next(state) * n >> 32;
}

struct ram {
	char *base;
	uint64_t bytes;
	uint64_t cut;  /* where tables come from, downwards */
	uint64_t last; /* lowest table that may be cut */
	void *free;    /* pages that came back */
};

struct guest_shape {
	uint64_t leaves;
	unsigned lg2;        /* of a leaf */
	unsigned format;     /* enum snest_format; 0: VT-d second stage */
	bool contiguous;     /* host addresses as they come, not permuted */
	uint64_t spread;     /* leaves lie this many leaf sizes apart; 0: 1 */
	unsigned ram_leaves; /* 0: as many as leaves; else the permutation repeats */
};

struct guest {
	struct guest_shape shape;
	struct snest_vm *vm;
	struct ram ram;
	struct snest_table_memory memory;
	struct snest_table *table;
	struct snest_space *space;
	struct snest_device *device;
	uint32_t *frame; /* leaf number -> host frame of the leaf's size */
	uint64_t sink_ops;
	bool mirrored;
	struct guest *next; /* put away */
};

struct guest *guest_create(const struct guest_shape *shape);
void guest_destroy(struct guest *g);

/*
 * The same, but a guest of that shape that was put away before comes back: large
 * ones take seconds to make. What is put away has its tables as they were made,
 * nothing bound but `device`, and no dirty log.
 */
struct guest *guest_get(const struct guest_shape *shape);
void guest_put(struct guest *g);
void guests_forget(void);

/* Fills the shadow by looking every leaf up, or by mirroring into a sink that counts. */
void guest_fill(struct guest *g);
void guest_mirror(struct guest *g);

/* Waits until a shadow that was dropped is freed and its tables are in the pool. */
void guest_settle(struct guest *g);

/* IOVA of a leaf, its guest physical address, its host address. */
static inline uint64_t guest_iova(const struct guest *g, uint64_t leaf)
{
	return (leaf * g->shape.spread) << g->shape.lg2;
}

static inline uint64_t guest_gpa(const struct guest *g, uint64_t leaf)
{
	return (uint64_t)g->frame[leaf] << g->shape.lg2;
}

static inline uint64_t guest_host(const struct guest *g, uint64_t leaf)
{
	return (uint64_t)(uintptr_t)g->ram.base + guest_gpa(g, leaf);
}

/* Where the entry of a leaf is (VT-d second stage); stores to it are the guest's. */
uint64_t *guest_entry(const struct guest *g, uint64_t leaf);

/* A stage of a format, of its usual shape and without a root. */
struct snest_stage guest_stage(unsigned format);

#endif
