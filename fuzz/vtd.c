/* SPDX-License-Identifier: MIT */
/*
 * The VT-d unit: bytes become register accesses of all sizes, guest memory,
 * descriptors, requests, pins, mirrors, page requests, saves that are restored
 * (whole or damaged), and allocations that fail.
 *
 * Input: three bytes that choose the unit, then actions of 16 bytes.
 * Properties, after every action:
 *   - a request gets one of the answers that the model IOTLB holds legal
 *     (vtd_model.h), and so does every page of every mirror's sink;
 *   - a register access never fails, constant registers stay what they are;
 *   - work is bounded: no call executes more descriptors than its budget;
 *   - a wait is not completed while a pin holds what it waits for;
 *   - a blob that was saved is taken back, and then saved the same;
 *   - nothing is left in a sink that was let go, or in the VM at the end.
 */
#include "actions.h"
#include "vtd_use.h"

#define ACTIONS_MAX 16
#define HEADER 3

enum action {
	A_WRITE,
	A_READ,
	A_MEMORY,
	A_POINT,
	A_GUEST,
	A_DESCRIPTOR,
	A_INVALIDATE,
	A_COMMAND,
	A_BY_REGISTER,
	A_REQUEST,
	A_SAVE,
	A_ROOT,
	A_RUN,
	A_MIRROR,
	A_UNMIRROR,
	A_PAGE_REQUEST,
	A_PIN,
	A_FAIL,
	A_UNIT,
	A_WRONG,
	A_COUNT
};

/* ---- Actions ------------------------------------------------------------ */

static void act(const uint8_t *a)
{
	unsigned size = 1 + a[1] % 8u, pair = a[5] % MODEL_PAIRS, iova = a[6] % MODEL_IOVAS;
	uint64_t where = fuzz_get(a + 2, 2), value = fuzz_get(a + 8, 8), q[4];
	uint64_t offset = a[4] & 0x80 ? where : registers[where % (sizeof(registers) / 2)];
	uint32_t access = 1 + a[1] % 3u;
	struct moment m;

	switch (a[0] % A_COUNT) {
	case A_WRITE:
		write_register(offset, a[4] & 1 ? size : 8, value);
		break;
	case A_READ:
		read_register(offset, size);
		break;
	case A_MEMORY:
		write_word(where % RAM_WORDS, value);
		break;
	case A_POINT:
		point(a);
		break;
	case A_GUEST:
		guest(a[1], a[2] & 3, 1 + a[3] % 4u);
		break;
	case A_DESCRIPTOR:
		q[0] = value;
		q[1] = where;
		q[2] = a[4];
		q[3] = 0;
		submit(q, 1);
		break;
	case A_INVALIDATE:
		describe(a, q);
		/* Waits may have to find no room; others say the same each time. */
		submit(q, 1 + (a[7] >> (q[0] % 16 == 5 ? 4 : 6)));
		if (!(a[7] & 8))
			background();
		ask_again();
		break;
	case A_COMMAND:
		describe(a, q);
		command(q, a[8], a[9]);
		ask_again();
		break;
	case A_BY_REGISTER:
		by_register(a);
		ask_again();
		break;
	case A_REQUEST:
		if (a[7] & 0x20) {
			interrupt(pair, access, a[8] * 16u);
			break;
		}
		if (a[7] & 0x40)
			access |= SNEST_EXEC;
		if (a[7] & 0x80)
			access |= SNEST_PRIVILEGED;
		request(pair, iova, a[8], access);
		f.asked[f.requests % ASKED].pair = (uint8_t)pair;
		f.asked[f.requests++ % ASKED].iova = (uint8_t)iova;
		break;
	case A_SAVE:
		save(value);
		break;
	case A_ROOT:
		if (a[1] & 1) {
			snest_vtd_set_root(f.vtd, (where & 0xf) << 12 | (where & 0x30) << 6);
			model_configure(f.vtd->root, f.vtd->te);
			if (f.cap & VTD_CAP_ESRTPS)
				model_forget_everything();
		} else if (f.vtd->te != (a[2] & 1)) {
			snest_vtd_enable(f.vtd, a[2] & 1);
			model_configure(f.vtd->root, f.vtd->te);
			if (!model.te && (f.ecap & VTD_ECAP_SMTS))
				model_forget_everything();
		}
		break;
	case A_RUN:
		if (a[1] & 1) {
			model_refresh();
			look(&m);
			snest_vtd_run(f.vtd);
			settle(&m, f.sync ? 32768 : f.vtd->budget);
		} else {
			background();
		}
		ask_again();
		break;
	case A_MIRROR:
		mirror(pair);
		break;
	case A_UNMIRROR:
		if (a[1] & 1)
			remove_device(pair);
		else
			unmirror(pair);
		break;
	case A_PAGE_REQUEST:
		page_request(a);
		break;
	case A_UNIT:
		another_unit(a);
		break;
	case A_WRONG:
		wrong();
		break;
	case A_PIN:
		if (a[1] & 4)
			unpin(a[2] % PINS);
		else
			pin(a[2] % PINS, pair, iova, access);
		break;
	default:
		if (a[1] & 1)
			f.fuzz.fail = 1 + a[2] % 16;
		else if (a[1] & 2)
			f.sink_fail = a[2] % 8;
		else if (a[1] & 4)
			f.device_tlb = a[2] & 1 ? -ETIMEDOUT : a[2] & 2 ? -EIO : 0;
		else
			flush(a[2]);
	}
}

static void check(void)
{
	struct snest_vtd_stats stats = {.size = sizeof(stats)};

	notice();
	model_refresh();
	follow_configuration();
	check_sinks();
	f.broken |= f.fuzz.failed;
	fuzz_check(!snest_vtd_stats(f.vtd, &stats) && stats.descriptors == f.vtd->stats.descriptors,
	           "no statistics");
	fuzz_check(f.vtd->reg[REG_CAP] == f.cap && f.vtd->reg[REG_ECAP] == f.ecap,
	           "a constant register has changed");
}

/* ---- One input ---------------------------------------------------------- */

static int ram_read(void *opaque, uint64_t addr, void *buf, size_t length)
{
	(void)opaque;
	memcpy(buf, (const char *)ram + addr, length);
	return 0;
}

static int ram_write(void *opaque, uint64_t addr, const void *buf, size_t length)
{
	(void)opaque;
	memcpy((char *)ram + addr, buf, length);
	return 0;
}

static int ram_exchange(void *opaque, uint64_t addr, uint64_t *expected, uint64_t desired)
{
	uint64_t *word = &ram[addr / 8];

	(void)opaque;
	if (*word != *expected) {
		*expected = *word;
		return -EAGAIN;
	}
	*word = desired;
	return 0;
}

static void map_ram(bool mapped)
{
	static const struct snest_accessors accessors = {
		.read = ram_read, .write = ram_write, .cmpxchg64 = ram_exchange};
	struct snest_region region = {
		.size = sizeof(region),
		.last = RAM_BYTES - 1,
		.host = HOST,
		.mapping = mapped ? ram : NULL,
		.accessors = mapped ? NULL : &accessors,
	};
	static void *spare;

	if (snest_memory_replace(f.fuzz.vm, &region))
		fuzz_check(0, "no memory");
	/*
	 * Accessors are one allocation, which the next input may find. The engine
	 * looks for a leak where an input allocates more than it frees, and runs it
	 * again for that: one in ten.
	 */
	free(spare);
	spare = mapped ? malloc(1) : NULL;
	f.mapped = mapped;
	fuzz_vm_mark(&f.fuzz);
}

static void create(void)
{
	struct snest_region data = {
		.size = sizeof(data),
		.first = DATA,
		.last = DATA + DATA_BYTES - 1,
		.host = HOST + DATA,
	};
	struct snest_vtd *vtd;

	fuzz_vm_create(&f.fuzz);
	model_create(ram);
	/* What a VM keeps once it has been needed is made before anything is counted. */
	if (snest_memory_add(f.fuzz.vm, &data) || snest_memory_add(model.vm, &data) ||
	    snest_vm_track(f.fuzz.vm, &tracker) || snest_vm_track(f.fuzz.vm, NULL) ||
	    snest_vtd_create(f.fuzz.vm, NULL, &vtd, NULL))
		fuzz_check(0, "no memory");
	snest_vtd_destroy(vtd);
	map_ram(true);
}

#define SCALABLE (SNEST_VTD_QUEUE | SNEST_VTD_SCALABLE)
#define BOTH (SCALABLE | SNEST_VTD_FIRST_STAGE | SNEST_VTD_SECOND_STAGE)

static const uint32_t features[] = {
	SNEST_VTD_QUEUE | SNEST_VTD_CACHING_MODE | SNEST_VTD_PASS_THROUGH | SNEST_VTD_PAGE_2M,
	BOTH | SNEST_VTD_CACHING_MODE | SNEST_VTD_NESTED | SNEST_VTD_PASS_THROUGH |
		SNEST_VTD_PAGE_2M | SNEST_VTD_PAGE_1G | SNEST_VTD_SUPERVISOR | SNEST_VTD_RID_PASID,
	SCALABLE | SNEST_VTD_FIRST_STAGE | SNEST_VTD_FIRST_1G | SNEST_VTD_FIRST_5LEVEL |
		SNEST_VTD_EXTENDED_A | SNEST_VTD_SRTP_INVALIDATES,
	SCALABLE | SNEST_VTD_SECOND_STAGE | SNEST_VTD_INTERRUPTS | SNEST_VTD_DEVICE_TLB |
		SNEST_VTD_PAGE_REQUESTS | SNEST_VTD_SECOND_AD | SNEST_VTD_CACHING_MODE,
	SNEST_VTD_CACHING_MODE | SNEST_VTD_PROTECTED_MEMORY | SNEST_VTD_PASS_THROUGH |
		SNEST_VTD_SRTP_INVALIDATES,
	BOTH | SNEST_VTD_NESTED | SNEST_VTD_DEVICE_TLB | SNEST_VTD_PAGE_REQUESTS |
		SNEST_VTD_SECOND_AD | SNEST_VTD_COHERENT | SNEST_VTD_SNOOP,
	SNEST_VTD_QUEUE | SNEST_VTD_DEVICE_TLB | SNEST_VTD_INTERRUPTS | SNEST_VTD_PROTECTED_MEMORY |
		SNEST_VTD_PASS_THROUGH,
	BOTH | SNEST_VTD_NESTED | SNEST_VTD_PASS_THROUGH | SNEST_VTD_PAGE_2M,
};

static void begin(unsigned kind, unsigned mode, unsigned more)
{
	struct snest_vtd_config config = {
		.size = sizeof(config),
		.features = features[kind % 8],
		.flags = mode & 1 ? SNEST_VTD_SYNC : 0,
		.haw_bits = 48,
		.budget = mode & 2 ? 2 : 0,
		.bindings_max = mode & 4 ? 2 : 0,
		.fault_records = 1 + more % 4,
		.address_bits = more & 0x10   ? 39
	                        : more & 0x20 ? 57
	                                      : 48,
		.version = more & 0x40 ? 0x60 : 0,
		.sync_entries_max = mode & 8 ? 600 : 4096,
		.table_bytes_max = more & 0x80 ? 6 * 4096 : 64 * 4096,
	};
	struct snest_vtd_hooks hooks = all_hooks;
	const char *why = "";

	if (!f.fuzz.vm)
		create();
	if (!(mode & 8) != f.mapped)
		map_ram(!(mode & 8));
	config.pasid_bits = config.features & SNEST_VTD_SCALABLE ? 8 : 0;
	if (mode & 0x10)
		hooks.kick = NULL;
	if (!(mode & 0x20))
		config.hooks = &hooks;
	f.tracking = mode & 0x40;
	f.whole = mode & 0x80;
	if (f.tracking && snest_vm_track(f.fuzz.vm, &tracker))
		fuzz_check(0, "no tracking");
	if (snest_vtd_create(f.fuzz.vm, &config, &f.vtd, &why))
		fuzz_check(0, "snest_vtd_create: %s", why);
	f.sync = config.flags;
	f.cap = read_register(8, 8);
	f.ecap = read_register(16, 8);
	model_begin(48, f.cap, f.ecap);
}

static void finish(void)
{
	f.fuzz.fail = 0;
	unpin_all();
	snest_vtd_destroy(f.vtd);
	for (unsigned n = 0; n < MODEL_PAIRS; n++)
		fuzz_check(!f.sink[n].count, "a map is left in a sink");
	fuzz_check(!f.protected, "a page is left protected");
	if (f.tracking && snest_vm_track(f.fuzz.vm, NULL))
		fuzz_check(0, "tracking is left on");
	fuzz_vm_check_clean(&f.fuzz);
	memset(ram, 0, sizeof(ram));
	f.fuzz.failed = false;
	f.fuzz.fail = 0;
	memset(&f.vtd, 0, sizeof(f) - offsetof(__typeof__(f), vtd));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	begin(size ? data[0] : 0, size > 1 ? data[1] : 0, size > 2 ? data[2] : 0);
	for (size_t at = HEADER, n = 0; at + 16 <= size && n < ACTIONS_MAX; at += 16, n++) {
		act(data + at);
		check();
	}
	f.fuzz.fail = 0;
	f.sink_fail = 0;
	flush((unsigned)size / 16);
	check();
	finish();
	return 0;
}

/* ---- Making inputs ------------------------------------------------------ */

static const struct fuzz_actions shape = {
	.header = HEADER, .length = 16, .kinds = A_COUNT, .max = ACTIONS_MAX};

#include "vtd_seeds.h"

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	return fuzz_actions_mutate(&shape, data, size, max_size, seed);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,
                                 size_t size2, uint8_t *out, size_t max_out, unsigned seed)
{
	return fuzz_actions_cross(&shape, data1, size1, data2, size2, out, max_out, seed);
}
