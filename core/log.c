/* SPDX-License-Identifier: MIT */
/*
 * Log lines through the VM's hook: see core/log.h.
 */
#include "core/log.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/vm.h"

#define LINE_MAX_BYTES 256
#define BURST 20u              /* lines that may come at once */
#define REFILL_NS 200000000ull /* then one each 200 ms */

void sn_log_limit_init(struct sn_log_limit *limit)
{
	*limit = (struct sn_log_limit){.tokens = BURST};
	pthread_mutex_init(&limit->lock, NULL);
}

void sn_log_limit_fini(struct sn_log_limit *limit)
{
	pthread_mutex_destroy(&limit->lock);
}

void sn_log(struct snest_vm *vm, enum snest_log_level level, const char *format, ...)
{
	char line[LINE_MAX_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	vm->hooks.log(vm->hooks.opaque, level, line);
}

/* Whether a line may go out now; *held_back is how many did not since the last one. */
static bool admit(struct sn_log_limit *limit, uint64_t now, uint32_t *held_back)
{
	bool yes;

	pthread_mutex_lock(&limit->lock);
	/* The time comes from a hook; a step backwards must not give tokens. */
	if (now < limit->refill_ns || limit->tokens == BURST) {
		limit->refill_ns = now;
	} else {
		uint64_t tokens = (now - limit->refill_ns) / REFILL_NS;

		if (tokens > BURST - limit->tokens)
			tokens = BURST - limit->tokens;
		limit->tokens += (uint32_t)tokens;
		limit->refill_ns += tokens * REFILL_NS;
	}
	yes = limit->tokens > 0;
	*held_back = 0;
	if (yes) {
		limit->tokens--;
		*held_back = limit->held_back;
		limit->held_back = 0;
	} else if (limit->held_back < UINT32_MAX) {
		limit->held_back++;
	}
	pthread_mutex_unlock(&limit->lock);
	return yes;
}

void sn_log_guest(struct snest_vm *vm, enum snest_log_level level, const char *format, ...)
{
	char line[LINE_MAX_BYTES];
	uint32_t held_back;
	va_list args;

	if (!admit(&vm->log_limit, sn_vm_now(vm), &held_back))
		return;
	if (held_back)
		sn_log(vm, level, "%u lines about the guest were held back", held_back);
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	vm->hooks.log(vm->hooks.opaque, level, line);
}
