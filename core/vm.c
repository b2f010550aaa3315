/* SPDX-License-Identifier: MIT */
/*
 * The VM object: made from its hooks upwards and taken apart in the reverse
 * order; object memory; statistics.
 */
#include "core/vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/arena.h"
#include "core/extensible.h"

#define CACHE_LINE 64u

static void default_log(void *opaque, enum snest_log_level level, const char *line)
{
	(void)opaque;
	if (level <= SNEST_LOG_WARNING)
		fprintf(stderr, "snest: %s\n", line);
}

static uint64_t default_now_ns(void *opaque)
{
	struct timespec now;

	(void)opaque;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int import_hooks(const struct snest_hooks *user, struct snest_hooks *hooks)
{
	int ret;

	memset(hooks, 0, sizeof(*hooks));
	if (user) {
		ret = SN_STRUCT_IN(hooks, user);
		if (ret)
			return ret;
		if (!hooks->alloc != !hooks->free)
			return -EINVAL;
	}
	if (!hooks->log)
		hooks->log = default_log;
	if (!hooks->now_ns)
		hooks->now_ns = default_now_ns;
	return 0;
}

/* ---- Memory ----------------------------------------------------------- */

void *sn_vm_memory_alloc(struct snest_vm *vm, size_t size, size_t align)
{
	if (vm->hooks.alloc)
		return vm->hooks.alloc(vm->hooks.opaque, size, align);
	return sn_arena_alloc(vm->arena, size, align);
}

void sn_vm_memory_free(struct snest_vm *vm, void *ptr, size_t size)
{
	if (vm->hooks.free)
		vm->hooks.free(vm->hooks.opaque, ptr, size);
	else
		sn_arena_free(vm->arena, ptr, size);
}

void sn_vm_memory_prefer_huge(struct snest_vm *vm, void *ptr, size_t size)
{
	if (!vm->hooks.alloc)
		sn_arena_prefer_huge(ptr, size);
}

/* Whole lines, since an allocator may want the size to be a multiple of the alignment. */
static size_t object_size(size_t size)
{
	return (size + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1);
}

void *sn_vm_alloc(struct snest_vm *vm, size_t size)
{
	void *ptr;

	if (!size || size > SIZE_MAX / 2)
		return NULL;
	size = object_size(size);
	ptr = sn_vm_memory_alloc(vm, size, CACHE_LINE);
	if (!ptr)
		return NULL;
	memset(ptr, 0, size);
	__atomic_fetch_add(&vm->object_bytes, size, __ATOMIC_RELAXED);
	return ptr;
}

void sn_vm_free(struct snest_vm *vm, void *ptr, size_t size)
{
	if (!ptr)
		return;
	size = object_size(size);
	__atomic_fetch_sub(&vm->object_bytes, size, __ATOMIC_RELAXED);
	sn_vm_memory_free(vm, ptr, size);
}

/* ---- Life ------------------------------------------------------------- */

static int import_config(const struct snest_vm_config *user, struct snest_vm *vm)
{
	struct snest_vm_config config = {.size = sizeof(config)};
	int ret = user ? SN_STRUCT_IN(&config, user) : 0;

	if (!ret)
		ret = import_hooks(config.hooks, &vm->hooks);
	if (!ret && config.host_stage) {
		ret = snest_stage_check(config.host_stage, NULL);
		if (!ret)
			ret = SN_STRUCT_IN(&vm->host_stage, config.host_stage);
	}
	vm->pool.bytes_max = config.table_bytes_max;
	return ret;
}

/*
 * The object lies in its own arena, so it is first put together on the stack,
 * as far as allocating needs it.
 */
int snest_vm_create(const struct snest_vm_config *config, struct snest_vm **result)
{
	struct snest_vm seed = {.object_bytes = 0};
	struct snest_vm *vm;
	int ret = import_config(config, &seed);

	if (ret)
		return ret;
	if (!seed.hooks.alloc) {
		ret = sn_arena_create(&seed.arena);
		if (ret)
			return ret;
	}
	ret = -ENOMEM;
	vm = sn_vm_alloc(&seed, sizeof(*vm));
	if (!vm)
		goto no_vm;
	vm->hooks = seed.hooks;
	vm->arena = seed.arena;
	vm->object_bytes = seed.object_bytes;
	vm->host_stage = seed.host_stage;
	sn_log_limit_init(&vm->log_limit);
	sn_pool_init(&vm->pool, vm, seed.pool.bytes_max);
	ret = sn_memory_init(&vm->memory, vm);
	if (ret)
		goto no_memory;
	ret = sn_reclaim_init(&vm->reclaim);
	if (ret)
		goto no_reclaim;
	*result = vm;
	return 0;

no_reclaim:
	sn_memory_fini(&vm->memory);
no_memory:
	sn_pool_fini(&vm->pool);
	sn_log_limit_fini(&vm->log_limit);
	sn_vm_free(&seed, vm, sizeof(*vm));
no_vm:
	sn_arena_destroy(seed.arena);
	return ret;
}

void snest_vm_destroy(struct snest_vm *vm)
{
	struct snest_vm seed = {.object_bytes = 0};

	if (!vm)
		return;
	sn_shadow_destroy(vm);
	sn_reclaim_fini(&vm->reclaim);
	sn_memory_fini(&vm->memory);
	sn_pool_fini(&vm->pool);
	sn_log_limit_fini(&vm->log_limit);
	seed.hooks = vm->hooks;
	seed.arena = vm->arena;
	sn_vm_free(&seed, vm, sizeof(*vm));
	sn_arena_destroy(seed.arena);
}

/* ---- Statistics and version ------------------------------------------- */

int snest_vm_stats(struct snest_vm *vm, struct snest_vm_stats *stats)
{
	struct snest_vm_stats now = {
		.table_bytes = __atomic_load_n(&vm->pool.bytes_used, __ATOMIC_RELAXED),
		.pool_bytes = __atomic_load_n(&vm->pool.bytes_held, __ATOMIC_RELAXED),
		.object_bytes = __atomic_load_n(&vm->object_bytes, __ATOMIC_RELAXED),
		.memory_changes = __atomic_load_n(&vm->memory.changes, __ATOMIC_RELAXED),
		.grace_periods = __atomic_load_n(&vm->reclaim.grace_periods, __ATOMIC_RELAXED),
		.deferred = sn_reclaim_pending(&vm->reclaim),
		.arena_bytes = vm->arena ? sn_arena_bytes(vm->arena) : 0,
	};

	/* Not a read section: a thread that only asks for statistics need not be registered. */
	pthread_mutex_lock(&vm->memory.lock);
	now.regions = vm->memory.map->count;
	pthread_mutex_unlock(&vm->memory.lock);
	return SN_STRUCT_OUT(stats, &now);
}

const char *snest_version(void)
{
	return SNEST_VERSION;
}
