/* SPDX-License-Identifier: MIT */
/*
 * Inlined read sections as an embedder gets them from the installed package:
 * they compile, link, and are the library's own. A drain inside one is refused.
 */
#include <errno.h>
#include <snest/read_inline.h>
#include <snest/space.h>
#include <string.h>

int main(void)
{
	struct snest_vm *vm;
	int inside, outside;

	if (snest_vm_create(NULL, &vm))
		return 1;
	snest_read_begin_inline();
	snest_read_begin();
	snest_read_end_inline();
	inside = snest_drain(vm, 0);
	snest_read_end();
	outside = snest_drain(vm, 0);
	snest_vm_destroy(vm);
	return strcmp(snest_rcu_flavour(), "bp") || inside != -EDEADLK || outside;
}
