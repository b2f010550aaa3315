/* SPDX-License-Identifier: MIT */
/*
 * An oracle from outside: the kernel's own walker of guest x86-64 tables.
 *
 * Random tables, hostile ones included, are put into the memory of a KVM guest
 * that never runs. KVM_TRANSLATE says for each address what a supervisor's
 * read yields; snest_walk() and the reference walker must say the same, and
 * all three must leave the same accessed flags behind. KVM_TRANSLATE reports
 * only whether there is a translation, and where to (its other fields are
 * constants), so other kinds of access, fault reasons and levels are compared
 * between snest and the reference alone. Skipped where /dev/kvm is not usable.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <snest/vm.h>
#include <snest/walk.h>

#include "ref/ref_walk.h"

#if defined(__x86_64__)

#include <linux/kvm.h>

#define PAGE 4096u
#define TABLES 64u                  /* pages of random tables */
#define HOST_BASE 0x10000000u       /* host address of the first byte of guest memory */
#define ROUND 1000u                 /* addresses for one set of tables */
#define ADDRESS 0x000ffffffffff000u /* bits of an entry that hold its address */

/* Two slots of guest memory; the tables lie in both. GPA 0 is in neither. */
#define LOW_GPA 0x100000u
#define LOW_BYTES (TABLES / 2 * PAGE)
#define HIGH_GPA 0x7fff00000u
#define HIGH_BYTES (TABLES / 2 * PAGE)

struct kvm_case {
	unsigned levels;
	unsigned maxphyaddr;
	bool no_1g;
};

struct oracle {
	int kvm, vm, vcpu;
	struct kvm_case config;
	uint8_t *memory; /* as the guest, KVM and snest see it: low slot, then high slot */
	uint8_t *model;  /* as the reference sees it */
	struct snest_vm *snest;
	struct snest_stage stage;
	uint64_t random;
	unsigned valid, invalid, compared;
};

static uint64_t draw(struct oracle *o)
{
	uint64_t z = o->random += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static bool chance(struct oracle *o, unsigned percent)
{
	return draw(o) % 100 < percent;
}

/* Offset of a GPA in `memory`, or -1. */
static int64_t offset_of(uint64_t gpa)
{
	if (gpa >= LOW_GPA && gpa - LOW_GPA < LOW_BYTES)
		return (int64_t)(gpa - LOW_GPA);
	if (gpa >= HIGH_GPA && gpa - HIGH_GPA < HIGH_BYTES)
		return (int64_t)(gpa - HIGH_GPA + LOW_BYTES);
	return -1;
}

static uint64_t table_gpa(unsigned i)
{
	if (i < TABLES / 2)
		return LOW_GPA + (uint64_t)i * PAGE;
	return HIGH_GPA + (uint64_t)(i - TABLES / 2) * PAGE;
}

static bool model_read(void *opaque, uint64_t addr, unsigned bytes, uint64_t *value)
{
	struct oracle *o = opaque;
	int64_t offset = offset_of(addr);

	if (offset < 0)
		return false;
	*value = 0;
	memcpy(value, o->model + offset, bytes);
	return true;
}

static bool model_write(void *opaque, uint64_t addr, unsigned bytes, uint64_t value)
{
	struct oracle *o = opaque;
	int64_t offset = offset_of(addr);

	if (offset < 0)
		return false;
	memcpy(o->model + offset, &value, bytes);
	return true;
}

/* ---- The guest -------------------------------------------------------- */

/* The CPUID of the guest: the host's, but with the rules of an Intel CPU. */
static int set_cpuid(struct oracle *o)
{
	const unsigned max = 256;
	struct kvm_cpuid2 *cpuid;
	int ret;

	cpuid = calloc(1, sizeof(*cpuid) + max * sizeof(cpuid->entries[0]));
	assert_non_null(cpuid);
	cpuid->nent = max;
	ret = ioctl(o->kvm, KVM_GET_SUPPORTED_CPUID, cpuid);
	for (unsigned i = 0; ret == 0 && i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function == 0 || e->function == 0x80000000u) {
			/* On AMD bit 8 of upper entries is reserved, unlike in a VT-d table. */
			memcpy(&e->ebx, "Genu", 4);
			memcpy(&e->edx, "ineI", 4);
			memcpy(&e->ecx, "ntel", 4);
		}
		if (e->function == 7 && e->index == 0 && o->config.levels == 5)
			e->ecx |= 1u << 16; /* LA57 */
		if (e->function == 0x80000001u) {
			e->edx |= 1u << 20; /* NX */
			if (o->config.no_1g)
				e->edx &= ~(1u << 26);
			else
				e->edx |= 1u << 26;
		}
		if (e->function == 0x80000008u) {
			e->eax &= ~0xffffu;
			e->eax |= o->config.maxphyaddr;
			e->eax |= (o->config.levels == 5 ? 57u : 48u) << 8;
		}
	}
	if (ret == 0)
		ret = ioctl(o->vcpu, KVM_SET_CPUID2, cpuid);
	free(cpuid);
	return ret;
}

static int set_root(struct oracle *o, uint64_t root)
{
	struct kvm_sregs sregs;

	if (ioctl(o->vcpu, KVM_GET_SREGS, &sregs))
		return -1;
	sregs.cr0 = 0x80010033u; /* PG WP NE ET MP PE */
	sregs.cr3 = root;
	sregs.cr4 = 0x20u | (o->config.levels == 5 ? 0x1000u : 0); /* PAE, LA57 */
	sregs.efer = 0xd00u;                                       /* NXE LMA LME */
	sregs.cs.l = 1;
	sregs.cs.db = 0;
	o->stage.root = root;
	return ioctl(o->vcpu, KVM_SET_SREGS, &sregs);
}

static int add_slot(struct oracle *o, unsigned slot, uint64_t gpa, uint64_t bytes, void *memory)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = bytes,
		.userspace_addr = (uintptr_t)memory,
	};
	struct snest_region snest = {
		.size = sizeof(snest),
		.first = gpa,
		.last = gpa + bytes - 1,
		.host = HOST_BASE + (uint64_t)((uint8_t *)memory - o->memory),
		.mapping = memory,
	};

	assert_int_equal(snest_memory_add(o->snest, &snest), 0);
	return ioctl(o->vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static void oracle_close(struct oracle *o)
{
	snest_vm_destroy(o->snest);
	if (o->memory)
		munmap(o->memory, LOW_BYTES + HIGH_BYTES);
	free(o->model);
	if (o->vcpu >= 0)
		close(o->vcpu);
	if (o->vm >= 0)
		close(o->vm);
	if (o->kvm >= 0)
		close(o->kvm);
}

/* Makes a guest, or says why there can be none and skips the test. */
static void oracle_open(struct oracle *o, struct kvm_case config)
{
	const char *missing = NULL;

	memset(o, 0, sizeof(*o));
	o->config = config;
	o->random = config.maxphyaddr; /* other tables for each case, the same in each run */
	o->vm = o->vcpu = -1;
	o->stage.size = sizeof(o->stage);
	o->stage.format = SNEST_FORMAT_X86_64;
	o->stage.levels = (uint8_t)config.levels;
	o->stage.oa_bits = (uint8_t)config.maxphyaddr;
	o->stage.flags = SNEST_STAGE_HW_A | SNEST_STAGE_X86_WP | SNEST_STAGE_X86_NX;

	o->model = calloc(1, LOW_BYTES + HIGH_BYTES);
	o->memory = mmap(NULL, LOW_BYTES + HIGH_BYTES, PROT_READ | PROT_WRITE,
	                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_non_null(o->model);
	assert_ptr_not_equal(o->memory, MAP_FAILED);
	assert_int_equal(snest_vm_create(NULL, &o->snest), 0);

	o->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (o->kvm < 0)
		missing = "/dev/kvm cannot be opened";
	else if (ioctl(o->kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		missing = "/dev/kvm has another API version";
	else if ((o->vm = ioctl(o->kvm, KVM_CREATE_VM, 0)) < 0)
		missing = "KVM_CREATE_VM";
	else if ((o->vcpu = ioctl(o->vm, KVM_CREATE_VCPU, 0)) < 0)
		missing = "KVM_CREATE_VCPU";
	else if (add_slot(o, 0, LOW_GPA, LOW_BYTES, o->memory) ||
	         add_slot(o, 1, HIGH_GPA, HIGH_BYTES, o->memory + LOW_BYTES))
		missing = "KVM_SET_USER_MEMORY_REGION";
	else if (set_cpuid(o))
		missing = "KVM_SET_CPUID2 (address widths)";
	else if (set_root(o, table_gpa(0)))
		missing = "KVM_SET_SREGS (paging mode)";
	if (!missing)
		return;
	print_message("KVM oracle skipped: %s: %s\n", missing, strerror(errno));
	oracle_close(o);
	skip();
}

/* KVM's answer, UINT64_MAX if there is no translation. */
static uint64_t kvm_translate(struct oracle *o, uint64_t addr)
{
	struct kvm_translation tr = {.linear_address = addr};

	assert_int_equal(ioctl(o->vcpu, KVM_TRANSLATE, &tr), 0);
	return tr.valid ? tr.physical_address : UINT64_MAX;
}

/* Whether this KVM takes PS in a PDPTE for a 1 GiB leaf: some ignore the CPUID bit. */
static bool kvm_has_1g(struct oracle *o)
{
	uint64_t entry = table_gpa(1) | 7;
	uint64_t leaf = 0x40000000u | 0x87;

	memcpy(o->memory, &entry, 8);
	memcpy(o->memory + PAGE, &leaf, 8);
	if (o->config.levels == 5) {
		memcpy(o->memory + PAGE, &entry, 8);
		entry = table_gpa(2) | 7;
		memcpy(o->memory + PAGE, &entry, 8);
		memcpy(o->memory + 2 * PAGE, &leaf, 8);
	}
	return kvm_translate(o, 0x12345) == 0x40012345u;
}

/* ---- Tables ----------------------------------------------------------- */

/*
 * An entry for any level. `sane` is the percentage of entries that would work
 * in a table of a decent guest.
 */
static uint64_t random_entry(struct oracle *o, unsigned sane)
{
	uint64_t entry = table_gpa((unsigned)(draw(o) % TABLES));

	entry |= draw(o) & 0x7ff0000000000f7eu; /* all but P, PS, address and reserved bits */
	entry |= draw(o) & (uint64_t)1 << 63;
	entry |= 1;
	if (chance(o, 5))
		entry |= 0x80;
	if (chance(o, sane))
		return entry;

	switch (draw(o) % 8) {
	case 0: /* not present */
		return chance(o, 50) ? 0 : draw(o) & ~(uint64_t)1;
	case 1: /* one bit flipped */
		return entry ^ (uint64_t)1 << draw(o) % 64;
	case 2: /* one address bit too high */
		return entry | (uint64_t)1 << (o->config.maxphyaddr - 2 + draw(o) % 6);
	case 3: /* somewhere else, memory or not */
		return (entry & ~ADDRESS) |
		       (draw(o) & ADDRESS >> (52 - o->config.maxphyaddr) & ADDRESS);
	case 4: /* just past the memory */
		return (entry & ~ADDRESS) |
		       (chance(o, 50) ? LOW_GPA + LOW_BYTES : HIGH_GPA + HIGH_BYTES);
	case 5: /* a large leaf that may be misaligned */
		return (entry & ~ADDRESS) | 0x80 | (draw(o) & 0x7ffe00000u) |
		       (draw(o) & draw(o) & draw(o) & 0x1ff000u);
	case 6: /* a proper 1 GiB, and so 2 MiB, leaf; perhaps with PAT */
		return (entry & ~ADDRESS) | 0x80 | (draw(o) & 0x7c0001000u);
	default:
		return draw(o);
	}
}

static void random_tables(struct oracle *o, unsigned sane)
{
	for (unsigned i = 0; i < TABLES * PAGE / 8; i++) {
		uint64_t entry = random_entry(o, sane);

		memcpy(o->memory + 8 * i, &entry, 8);
	}
	/* Some tables that lead to themselves at every index. */
	for (unsigned i = 0; i < 3; i++) {
		unsigned page = (unsigned)(draw(o) % TABLES);
		uint64_t entry = table_gpa(page) | 7;

		for (unsigned j = 0; j < PAGE / 8; j++)
			memcpy(o->memory + (size_t)page * PAGE + 8 * j, &entry, 8);
	}
	memcpy(o->model, o->memory, LOW_BYTES + HIGH_BYTES);
}

/* ---- Comparison ------------------------------------------------------- */

static void same_as_reference(struct oracle *o, const struct snest_walk *walk,
                              const struct ref_result *ref)
{
	if (!ref->ok) {
		assert_int_equal(walk->outcome, SNEST_WALK_FAULT);
		assert_int_equal(walk->fault.reason, ref->reason);
		assert_int_equal(walk->fault.level, ref->level);
		assert_int_equal(walk->fault.entry_addr, ref->entry_addr);
		assert_int_equal(walk->fault.entry, ref->entry);
		return;
	}
	assert_int_not_equal(walk->outcome, SNEST_WALK_FAULT);
	assert_int_equal(walk->gpa, ref->out);
	assert_int_equal(walk->stage[0].output, ref->out);
	assert_int_equal(walk->stage[0].lg2, ref->lg2);
	assert_int_equal(walk->stage[0].level, ref->level);
	assert_int_equal(walk->stage[0].rights, ref->rights);

	int64_t offset = offset_of(ref->out);
	if (offset < 0) {
		assert_int_equal(walk->outcome, SNEST_WALK_GPA);
	} else {
		assert_int_equal(walk->outcome, SNEST_WALK_HOST);
		assert_int_equal(walk->host, HOST_BASE + (uint64_t)offset);
	}
	o->compared++;
}

static void one_address(struct oracle *o, uint64_t addr, bool snest_first)
{
	struct ref_memory mem = {model_read, model_write, o};
	uint32_t access = SNEST_READ | SNEST_PRIVILEGED;
	uint32_t other = (uint32_t)draw(o) & (SNEST_RIGHTS | SNEST_PRIVILEGED);
	unsigned sign = o->config.levels == 5 ? 56 : 47;
	bool canonical = (uint64_t)((int64_t)(addr << (63 - sign)) >> (63 - sign)) == addr;
	bool update = false;
	struct ref_result ref;
	struct snest_walk walk;

	ref_walk(&o->stage, &mem, addr, other, false, &ref);
	assert_int_equal(snest_walk(o->snest, &o->stage, 1, addr, other, SNEST_WALK_NO_UPDATE,
	                            &walk, NULL, NULL),
	                 0);
	same_as_reference(o, &walk, &ref);

	ref_walk(&o->stage, &mem, addr, access, false, &ref);
	if (ref.ok) {
		/*
		 * Whoever comes first sets the accessed flags that the others
		 * then find. KVM sets none when the walk ends in a fault.
		 */
		ref_walk(&o->stage, &mem, addr, access, true, &ref);
		update = snest_first;
	}
	assert_int_equal(snest_walk(o->snest, &o->stage, 1, addr, access,
	                            update ? 0 : SNEST_WALK_NO_UPDATE, &walk, NULL, NULL),
	                 0);
	same_as_reference(o, &walk, &ref);
	if (!canonical) {
		/* KVM_TRANSLATE does not look at the upper bits. */
		assert_int_equal(ref.reason, SNEST_FAULT_NON_CANONICAL);
		return;
	}

	uint64_t expect = ref.ok ? ref.out : UINT64_MAX;
	uint64_t got = kvm_translate(o, addr);
	if (got != expect) {
		print_error("address %#" PRIx64 " root %#" PRIx64 " oa_bits %u: KVM %#" PRIx64
		            ", reference %#" PRIx64 " (reason %u level %u entry %#" PRIx64 ")\n",
		            addr, o->stage.root, o->stage.oa_bits, got, expect, ref.reason,
		            ref.level, ref.entry);
		fail();
	}
	if (ref.ok)
		o->valid++;
	else
		o->invalid++;
}

static void compare(struct oracle *o, unsigned addresses)
{
	static const unsigned sane[] = {98, 90, 70, 30};
	unsigned width = o->config.levels == 5 ? 57 : 48;

	if (!kvm_has_1g(o))
		o->stage.flags |= SNEST_STAGE_NO_1G;
	for (unsigned done = 0, round = 0; done < addresses; round++) {
		bool outside = round % 16 == 15;

		random_tables(o, sane[round % 4]);
		assert_int_equal(set_root(o, outside ? 0 : table_gpa((unsigned)(draw(o) % TABLES))),
		                 0);
		for (unsigned i = 0; i < (outside ? 16 : ROUND) && done < addresses; i++, done++) {
			uint64_t addr = draw(o);

			if (i % 16 && !outside) /* canonical: sign-extend */
				addr = (uint64_t)((int64_t)(addr << (64 - width)) >> (64 - width));
			one_address(o, addr, round % 2);
		}
		assert_memory_equal(o->memory, o->model, LOW_BYTES + HIGH_BYTES);
	}
	print_message(
		"KVM oracle: %u levels, MAXPHYADDR %u%s: %u translations and %u faults agree\n",
		o->config.levels, o->config.maxphyaddr,
		o->stage.flags & SNEST_STAGE_NO_1G ? ", no 1 GiB leaves" : "", o->valid,
		o->invalid);
	/* The tables must have been worth it. */
	assert_true(o->valid > addresses / 10);
	assert_true(o->invalid > addresses / 10);
}

static void run_case(struct kvm_case config, unsigned addresses)
{
	struct oracle o;

	oracle_open(&o, config);
	compare(&o, addresses);
	oracle_close(&o);
}

static void four_levels_agree_with_kvm(void **state)
{
	(void)state;
	run_case((struct kvm_case){.levels = 4, .maxphyaddr = 40}, 120000);
}

static void every_address_width_agrees_with_kvm(void **state)
{
	static const unsigned widths[] = {36, 39, 46, 48, 52};

	(void)state;
	for (unsigned i = 0; i < sizeof(widths) / sizeof(widths[0]); i++)
		run_case((struct kvm_case){.levels = 4, .maxphyaddr = widths[i]}, 10000);
}

static void without_1g_leaves_agrees_with_kvm(void **state)
{
	(void)state;
	run_case((struct kvm_case){.levels = 4, .maxphyaddr = 46, .no_1g = true}, 10000);
}

static void five_levels_agree_with_kvm(void **state)
{
	(void)state;
	run_case((struct kvm_case){.levels = 5, .maxphyaddr = 46}, 60000);
}

#else

static void four_levels_agree_with_kvm(void **state)
{
	(void)state;
	print_message("KVM oracle skipped: not an x86-64 machine\n");
	skip();
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(four_levels_agree_with_kvm),
#if defined(__x86_64__)
		cmocka_unit_test(every_address_width_agrees_with_kvm),
		cmocka_unit_test(without_1g_leaves_agrees_with_kvm),
		cmocka_unit_test(five_levels_agree_with_kvm),
#endif
	};

	return cmocka_run_group_tests_name("kvm", tests, NULL, NULL);
}
