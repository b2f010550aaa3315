/* SPDX-License-Identifier: MIT */
/*
 * Host memory for readers (tools/replay_slots.h): each region of RAM has memory
 * of its own, of which only the stamps are ever touched, so that a gigabyte of
 * guest costs what its devices use. One thread writes; readers load stamps.
 */
#include <errno.h>
#include <sys/mman.h>
#include "tools/replay_slots.h"

/* The largest page of any stage in a trace. */
#define ALIGN ((uint64_t)1 << 30)

static void *reserve(uint64_t bytes)
{
	void *p = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE,
	               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int sn_stamps_create(struct sn_slots *s, const struct sn_sparse *memory)
{
	const struct sn_sparse_region *ram;
	unsigned count = sn_sparse_regions(memory, &ram);

	for (; s->regions < count; s->regions++) {
		struct sn_stamps *stamps = &s->stamps[s->regions];
		uint64_t bytes = ram[s->regions].last - ram[s->regions].first + 1;

		stamps->first = ram[s->regions].first;
		stamps->last = ram[s->regions].last;
		stamps->mapping = reserve(bytes + ALIGN);
		stamps->users = stamps->mapping ? reserve(bytes >> 10) : NULL;
		if (!stamps->users) {
			if (stamps->mapping)
				munmap(stamps->mapping, bytes + ALIGN);
			return -ENOMEM;
		}
		/* GPAs and host addresses differ by a multiple: large pages stay large. */
		stamps->data = stamps->mapping;
		stamps->data += (stamps->first - (uintptr_t)stamps->mapping) & (ALIGN - 1);
	}
	return 0;
}

void sn_stamps_destroy(struct sn_slots *s)
{
	for (unsigned i = 0; i < s->regions; i++) {
		uint64_t bytes = s->stamps[i].last - s->stamps[i].first + 1;

		munmap(s->stamps[i].mapping, bytes + ALIGN);
		munmap(s->stamps[i].users, bytes >> 10);
	}
}

static struct sn_stamps *stamps_of(struct sn_slots *s, uint64_t gpa)
{
	for (unsigned i = 0; i < s->regions; i++) {
		if (gpa >= s->stamps[i].first && gpa <= s->stamps[i].last)
			return &s->stamps[i];
	}
	return NULL;
}

uint64_t sn_replay_host(const struct sn_replay *r, uint64_t gpa)
{
	const struct sn_stamps *stamps = r->slots ? stamps_of(r->slots, gpa) : NULL;

	return stamps ? (uintptr_t)stamps->data + (gpa - stamps->first) : gpa;
}

uint64_t sn_replay_gpa(const struct sn_replay *r, uint64_t host)
{
	for (unsigned i = 0; r->slots && i < r->slots->regions; i++) {
		const struct sn_stamps *stamps = &r->slots->stamps[i];
		uint64_t offset = host - (uintptr_t)stamps->data;

		if (offset <= stamps->last - stamps->first)
			return stamps->first + offset;
	}
	return host;
}

void sn_stamps_use(struct sn_slots *s, uint64_t legal, int change)
{
	uint64_t page = legal & ~(uint64_t)4095, index;
	struct sn_stamps *stamps;

	if (legal == SN_LEGAL_NONE || legal == SN_LEGAL_FAULT)
		return;
	stamps = stamps_of(s, page);
	if (!stamps)
		return;
	index = (page - stamps->first) >> 12;
	stamps->users[index] += (uint32_t)change;
	if (stamps->users[index] == (change > 0))
		__atomic_store_n((uint64_t *)(stamps->data + (index << 12)),
		                 change > 0 ? page : SN_STAMP_FREED, __ATOMIC_RELEASE);
}
