/* SPDX-License-Identifier: MIT */
/*
 * Log lines through the VM's hook.
 *
 * What a guest can cause is logged with sn_log_guest, which lets a burst
 * through and then a few lines a second, and says how many it held back. What
 * only the embedder or the host can cause is logged with sn_log. Any thread,
 * also inside read sections.
 */
#ifndef SN_CORE_LOG_H
#define SN_CORE_LOG_H

#include <pthread.h>
#include <snest/vm.h>

struct sn_log_limit {
	pthread_mutex_t lock; /* guards the fields below; a leaf */
	uint64_t refill_ns;   /* time of the last refill */
	uint32_t tokens;
	uint32_t held_back;
};

void sn_log_limit_init(struct sn_log_limit *limit);
void sn_log_limit_fini(struct sn_log_limit *limit);

__attribute__((format(printf, 3, 4))) void sn_log(struct snest_vm *vm, enum snest_log_level level,
                                                  const char *format, ...);
__attribute__((format(printf, 3, 4))) void sn_log_guest(struct snest_vm *vm,
                                                        enum snest_log_level level,
                                                        const char *format, ...);

#endif
