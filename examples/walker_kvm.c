/* SPDX-License-Identifier: MIT */
/*
 * A plug-in for `snest difffuzz`: KVM's own walker of x86-64 guest tables, asked
 * with KVM_TRANSLATE about a guest that never runs.
 *
 *   cc -shared -fPIC -o kvm.so walker_kvm.c
 *   snest difffuzz --walker ./kvm.so
 *
 * What KVM_TRANSLATE can be asked, and so what is compared: whether a read by
 * the supervisor is translated, to which address, and which accessed flags it
 * leaves behind (it sets them when the whole walk succeeds). Its answer has
 * fields for rights, but they are constants; there is no page size, no reason of
 * a fault, no write, no execution, no user access. It does not look at the upper
 * bits of an address that is not canonical; that is not asked. So of the flags
 * of a stage only the accessed flag and the 1 GiB page matter; the rest is what
 * KVM's guest is set up with.
 *
 * Needs an x86-64 machine and the right to open /dev/kvm.
 */
#include <errno.h>
#include <snest/walker.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__linux__)

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Memory above this may be refused: it depends on the machine's address width. */
#define MEMORY_BITS 36
#define CPUID_MAX 256

/* A corner of the guest's memory that holds no region, to find out what KVM does. */
#define PROBE_GPA 0x100000u
#define PROBE_PAGES 4u
#define PAGE 4096u

struct walker {
	int kvm, vm, vcpu;
	unsigned levels;
	struct kvm_sregs sregs;
};

static void walker_close(void *state)
{
	struct walker *w = state;

	if (w->vcpu >= 0)
		close(w->vcpu);
	if (w->vm >= 0)
		close(w->vm);
	if (w->kvm >= 0)
		close(w->kvm);
	free(w);
}

/* The host's CPUID, but with the rules of an Intel CPU: on AMD bit 8 of upper entries is reserved.
 */
static int set_cpuid(const struct walker *w, unsigned maxphyaddr)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + CPUID_MAX * sizeof(cpuid->entries[0]));
	int ret;

	if (!cpuid)
		return -1;
	cpuid->nent = CPUID_MAX;
	ret = ioctl(w->kvm, KVM_GET_SUPPORTED_CPUID, cpuid);
	for (unsigned i = 0; ret == 0 && i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function == 0 || e->function == 0x80000000u) {
			memcpy(&e->ebx, "Genu", 4);
			memcpy(&e->edx, "ineI", 4);
			memcpy(&e->ecx, "ntel", 4);
		}
		if (e->function == 7 && e->index == 0 && w->levels == 5)
			e->ecx |= 1u << 16; /* LA57 */
		if (e->function == 0x80000001u)
			e->edx |= 1u << 20 | 1u << 26; /* NX, 1 GiB pages */
		if (e->function == 0x80000008u)
			e->eax = (e->eax & ~0xffffu) | maxphyaddr |
			         (w->levels == 5 ? 57u : 48u) << 8;
	}
	if (ret == 0)
		ret = ioctl(w->vcpu, KVM_SET_CPUID2, cpuid);
	free(cpuid);
	return ret;
}

static int set_slot(const struct walker *w, unsigned slot, uint64_t gpa, uint64_t bytes, void *data)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = bytes,
		.userspace_addr = (uintptr_t)data,
	};

	return ioctl(w->vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static int set_root(struct walker *w, uint64_t root)
{
	w->sregs.cr3 = root;
	return ioctl(w->vcpu, KVM_SET_SREGS, &w->sregs);
}

static int set_paging(struct walker *w)
{
	if (ioctl(w->vcpu, KVM_GET_SREGS, &w->sregs))
		return -1;
	w->sregs.cr0 = 0x80010033u;                            /* PG WP NE ET MP PE */
	w->sregs.cr4 = 0x20u | (w->levels == 5 ? 0x1000u : 0); /* PAE, LA57 */
	w->sregs.efer = 0xd00u;                                /* NXE LMA LME */
	w->sregs.cs.l = 1;
	w->sregs.cs.db = 0;
	return set_root(w, 0);
}

/* Some KVMs ignore what CPUID says about 1 GiB pages: 1 if this takes them, 0 if not, -1 error. */
static int has_1g(struct walker *w)
{
	struct kvm_translation tr = {.linear_address = 0x12345};
	uint64_t *words = mmap(NULL, PROBE_PAGES * PAGE, PROT_READ | PROT_WRITE,
	                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned tables = w->levels - 2; /* in front of the table with the leaf */
	int ret = -1;

	if (words == MAP_FAILED)
		return -1;
	for (unsigned i = 0; i < tables; i++)
		words[i * PAGE / 8] = (PROBE_GPA + (i + 1) * PAGE) | 7;
	words[(tables - 1) * PAGE / 8] = 0x40000000u | 0x87;
	if (!set_slot(w, 2, PROBE_GPA, PROBE_PAGES * PAGE, words) && !set_root(w, PROBE_GPA) &&
	    !ioctl(w->vcpu, KVM_TRANSLATE, &tr))
		ret = tr.valid && tr.physical_address == 0x40012345u;
	set_slot(w, 2, PROBE_GPA, 0, words);
	munmap(words, PROBE_PAGES * PAGE);
	return ret;
}

static int walker_open(const struct snest_walker_memory *memory, struct snest_stage *stage,
                       void **state, const char **why)
{
	struct walker *w = calloc(1, sizeof(*w));
	int error, large = 0;

	*why = "out of memory";
	if (!w)
		return -ENOMEM;
	w->vm = w->vcpu = -1;
	w->levels = stage->levels;
	w->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	*why = NULL;
	if (w->kvm < 0)
		*why = "KVM is not usable: /dev/kvm cannot be opened";
	else if (ioctl(w->kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		*why = "KVM is not usable: /dev/kvm has another API version";
	else if ((w->vm = ioctl(w->kvm, KVM_CREATE_VM, 0)) < 0)
		*why = "KVM is not usable: KVM_CREATE_VM fails";
	else if ((w->vcpu = ioctl(w->vm, KVM_CREATE_VCPU, 0)) < 0)
		*why = "KVM is not usable: KVM_CREATE_VCPU fails";
	for (unsigned i = 0; !*why && i < memory->count; i++) {
		const struct snest_walker_region *region = &memory->region[i];

		if (set_slot(w, i, region->first, region->bytes, region->data))
			*why = "KVM is not usable: KVM_SET_USER_MEMORY_REGION fails";
	}
	error = *why ? -ENODEV : -EOPNOTSUPP;
	/* From here on it is this stage that KVM, or this machine, does not have. */
	if (!*why && stage->rights && !(stage->rights & SNEST_READ))
		*why = "KVM_TRANSLATE only reads";
	else if (!*why && set_cpuid(w, stage->oa_bits ? stage->oa_bits : 52))
		*why = "KVM_SET_CPUID2 refuses the address width";
	else if (!*why && set_paging(w))
		*why = "KVM_SET_SREGS refuses the paging mode";
	else if (!*why && (large = has_1g(w)) < 0)
		*why = "KVM_TRANSLATE fails";
	if (*why) {
		walker_close(w);
		return error;
	}
	stage->flags = SNEST_STAGE_HW_A | SNEST_STAGE_X86_WP | SNEST_STAGE_X86_NX |
	               (large ? 0 : SNEST_STAGE_NO_1G);
	*state = w;
	return 0;
}

static int walker_begin(void *state, uint64_t root, uint64_t root_high)
{
	struct walker *w = state;

	(void)root_high;
	return w->sregs.cr3 == root || !set_root(w, root) ? 0 : -errno;
}

static int walker_translate(void *state, uint64_t input, uint32_t access,
                            struct snest_walker_answer *answer)
{
	const struct walker *w = state;
	struct kvm_translation tr = {.linear_address = input};
	unsigned unused = 64 - 12 - 9 * w->levels;

	(void)access;
	if ((uint64_t)((int64_t)(input << unused) >> unused) != input) {
		answer->outcome = SNEST_WALKER_UNKNOWN;
		return 0;
	}
	if (ioctl(w->vcpu, KVM_TRANSLATE, &tr))
		return -errno;
	answer->outcome = tr.valid ? SNEST_WALKER_TRANSLATED : SNEST_WALKER_FAULT;
	answer->gpa = tr.physical_address;
	return 0;
}

#else

#define MEMORY_BITS 0

static void walker_close(void *state)
{
	(void)state;
}

static int walker_open(const struct snest_walker_memory *memory, struct snest_stage *stage,
                       void **state, const char **why)
{
	(void)memory, (void)stage, (void)state;
	*why = "KVM is not usable: this needs an x86-64 machine with Linux";
	return -ENODEV;
}

static int walker_begin(void *state, uint64_t root, uint64_t root_high)
{
	(void)state, (void)root, (void)root_high;
	return -ENODEV;
}

static int walker_translate(void *state, uint64_t input, uint32_t access,
                            struct snest_walker_answer *answer)
{
	(void)state, (void)input, (void)access, (void)answer;
	return -ENODEV;
}

#endif

const struct snest_walker *snest_walker_get(void)
{
	static const struct snest_walker walker = {
		.size = sizeof(walker),
		.version = SNEST_WALKER_VERSION,
		.formats = SNEST_WALKER_FORMAT(SNEST_FORMAT_X86_64),
		.accesses = SNEST_WALKER_ACCESS(SNEST_READ | SNEST_PRIVILEGED),
		.reports = SNEST_WALKER_UPDATES | SNEST_WALKER_UPDATES_LATE,
		.memory_bits = MEMORY_BITS,
		.name = "KVM",
		.open = walker_open,
		.close = walker_close,
		.begin = walker_begin,
		.translate = walker_translate,
	};

	return &walker;
}
