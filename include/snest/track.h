/* SPDX-License-Identifier: MIT */
/*
 * Write tracking: mirrors of guests that do not announce new mappings.
 *
 * A guest of class B (SMMUv3, RISC-V, VT-d first stage) tells its IOMMU what it
 * removed or changed, never what it added. To mirror its spaces, snest has the
 * embedder protect the pages of guest memory that its tables lie in, and is
 * told when one of them was written.
 *
 * Contract. While a page is protected, whoever changes it (the guest's
 * processors, an emulated device, the embedder itself) does one of:
 *
 *   - the write is made, by whatever means, and behind it comes
 *     snest_table_written with the bytes that changed; or
 *   - the page is opened for writing for a while. Then it is protected again,
 *     and behind that comes snest_table_written with the whole page, at the
 *     latest before the guest's next wait command completes.
 *
 * Until that notice has returned, the mirror may lag behind the page.
 * Architecture: "Write tracking" in docs/architecture.md.
 */
#ifndef SNEST_TRACK_H
#define SNEST_TRACK_H

#include <snest/space.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * How guest memory is protected. Addresses are those of the memory map, whole
 * pages of 4 KiB. Each page is protected and unprotected in turn, however many
 * spaces use it. Both are called by any thread, inside a read section, with
 * locks of snest held: they must not call snest, nor wait for a thread that
 * may be inside it.
 */
struct snest_tracker {
	size_t size; /* sizeof(struct snest_tracker) */
	void *opaque;
	/*
	 * When it returns 0, every write that landed before can be read by the
	 * calling thread, and every later one follows the contract above. A
	 * negative errno: the page stays as it was, what its entries map is
	 * not mirrored, and the sink is told so.
	 */
	int (*protect)(void *opaque, uint64_t gpa, uint64_t length);
	/*
	 * The page may be written freely. The memory map may have changed, so
	 * that this page is gone, or leads to other memory than it did.
	 */
	void (*unprotect)(void *opaque, uint64_t gpa, uint64_t length);
};

/*
 * Turns write tracking on: snest_space_mirror then takes spaces without
 * SNEST_SPACE_ANNOUNCED too. *tracker is copied; NULL turns it off again.
 * Any thread. Errors: -EINVAL (a function is missing), -E2BIG, -ENOMEM, -EBUSY
 * (a space is mirrored that needs the present one).
 */
SNEST_API int snest_vm_track(struct snest_vm *vm, const struct snest_tracker *tracker);

/*
 * Guest memory gpa .. gpa + length - 1, addresses of the memory map, was
 * written: the mirrors that depend on it re-read what its entries translate,
 * and send the difference to their sinks. Pages that no space depends on cost
 * a look-up. Any thread, not inside a read section or a callback of snest.
 * Errors: -EINVAL (empty or wrapping range), -EDEADLK (in protect or
 * unprotect), and what a sink returned, as snest_space_invalidate.
 */
SNEST_API int snest_table_written(struct snest_vm *vm, uint64_t gpa, uint64_t length);

#ifdef __cplusplus
}
#endif

#endif
