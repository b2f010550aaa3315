/* SPDX-License-Identifier: MIT */
/*
 * The smallest embedding: a VM with 16 MiB of memory, a page table in that
 * memory as a guest would write it, and two IOVAs translated through it.
 */
#include <inttypes.h>
#include <snest/table.h>
#include <snest/walk.h>
#include <stdio.h>
#include <stdlib.h>

#define RAM_SIZE ((size_t)16 << 20)
#define MAPPED UINT64_C(0xffff0000) /* 64 KiB from here lead to GPA 0x200000 */

static _Alignas(4096) unsigned char ram[RAM_SIZE]; /* GPA 0 is ram[0] */
static size_t used = RAM_SIZE / 2;                 /* the upper half is for table pages */

static void *page_alloc(void *opaque, unsigned lg2)
{
	(void)opaque;
	used += (size_t)1 << lg2;
	return used <= RAM_SIZE ? ram + used - ((size_t)1 << lg2) : NULL;
}

static void page_free(void *opaque, void *page, unsigned lg2)
{
	(void)opaque, (void)page, (void)lg2;
}

static void show(struct snest_vm *vm, const struct snest_stage *stage, uint64_t iova)
{
	struct snest_walk walk;

	printf("0x%" PRIx64 ": ", iova);
	if (snest_walk(vm, stage, 1, iova, SNEST_WRITE, 0, &walk, NULL, NULL))
		exit(EXIT_FAILURE);
	if (walk.outcome == SNEST_WALK_HOST)
		printf("GPA 0x%" PRIx64 ", which is ram[0x%" PRIx64 "]\n", walk.gpa,
		       walk.host - (uintptr_t)ram);
	else
		printf("fault, %s at level %u\n", snest_fault_reason_name(walk.fault.reason),
		       walk.fault.level);
}

int main(void)
{
	struct snest_region region = {
		.size = sizeof(region),
		.last = RAM_SIZE - 1,
		.host = (uintptr_t)ram, /* what walks yield: here, pointers */
		.mapping = ram,         /* where snest itself reads the tables */
	};
	struct snest_table_memory memory = {
		.size = sizeof(memory),
		.alloc = page_alloc,
		.free = page_free,
		.delta = -(uint64_t)(uintptr_t)ram, /* entries hold GPAs */
	};
	struct snest_stage shape = {
		.size = sizeof(shape),
		.format = SNEST_FORMAT_X86_64,
		.levels = 4,
	};
	struct snest_vm *vm;
	struct snest_table *table;

	if (snest_vm_create(NULL, &vm) || snest_memory_add(vm, &region) ||
	    snest_table_create(vm, &shape, &memory, &table) ||
	    snest_table_map(table, MAPPED, MAPPED + 0xffff, 0x200000, SNEST_READ | SNEST_WRITE,
	                    SNEST_ATTR_USER, 0))
		return EXIT_FAILURE;
	show(vm, snest_table_stage(table), MAPPED + 0x1234);
	show(vm, snest_table_stage(table), MAPPED + 0x10000);
	snest_table_destroy(table);
	snest_vm_destroy(vm);
	return EXIT_SUCCESS;
}
