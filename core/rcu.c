/* SPDX-License-Identifier: MIT */
/*
 * The public face of the RCU flavour: threads and read sections for embedders.
 * Everything else is inlined from core/rcu.h.
 */
#include "core/rcu.h"

#include <snest/vm.h>

#ifdef SN_TSAN
char sn_rcu_tsan_edge;
#endif

void snest_thread_register(void)
{
	sn_thread_register();
}

void snest_thread_unregister(void)
{
	sn_thread_unregister();
}

void snest_thread_quiescent(void)
{
#ifdef SNEST_RCU_QSBR
	SN_RCU_TSAN_RELEASE();
	urcu_qsbr_quiescent_state();
#endif
}

void snest_thread_offline(void)
{
	sn_thread_offline();
}

void snest_thread_online(void)
{
	sn_thread_online();
}

void snest_read_begin(void)
{
	sn_read_begin();
}

void snest_read_end(void)
{
	sn_read_end();
}

const char *snest_rcu_flavour(void)
{
	return SN_RCU_NAME;
}
