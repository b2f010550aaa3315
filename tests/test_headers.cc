/* SPDX-License-Identifier: MIT */
/*
 * The public headers in C++: they compile together, their functions link under
 * C names, and their flags combine without casts. Each header by itself is
 * compiled from header.in.
 */
#include <snest/device.h>
#include <snest/space.h>
#include <snest/stage.h>
#include <snest/table.h>
#include <snest/track.h>
#include <snest/types.h>
#include <snest/vm.h>
#include <snest/vtd.h>
#include <snest/walk.h>
#include <snest/walker.h>

#include <cstdio>
#include <cstring>

static int failures;

static void check(bool ok, const char *what)
{
	if (ok)
		return;
	std::fprintf(stderr, "failed: %s\n", what);
	failures++;
}

int main()
{
	struct snest_vm *vm = nullptr;
	struct snest_vm_config config = {};
	config.size = sizeof(config);

	check(snest_version() != nullptr, "snest_version gives a string");
	check(snest_vm_create(&config, &vm) == 0, "snest_vm_create succeeds");
	snest_thread_register();

	struct snest_walk walk;
	std::memset(&walk, 0xff, sizeof(walk));
	check(snest_walk(vm, nullptr, 0, 0x1000, SNEST_READ | SNEST_WRITE, 0, &walk, nullptr,
	                 nullptr) == 0,
	      "a pass-through walk succeeds");
	check(walk.outcome == SNEST_WALK_GPA && walk.gpa == 0x1000,
	      "pass-through in an empty map yields the GPA");

	snest_thread_unregister();
	snest_vm_destroy(vm);
	return failures != 0;
}
