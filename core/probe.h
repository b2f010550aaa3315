/* SPDX-License-Identifier: MIT */
/*
 * USDT probes: places where tools such as bpftrace and perf can look in. A
 * probe that nobody watches is one no-op instruction. Provider name: snest.
 * docs/tracing.md lists them; a test holds that list against the library.
 */
#ifndef SN_CORE_PROBE_H
#define SN_CORE_PROBE_H

#ifdef SNEST_USDT
#include <sys/sdt.h>
#define SN_PROBE1(name, a) DTRACE_PROBE1(snest, name, a)
#define SN_PROBE2(name, a, b) DTRACE_PROBE2(snest, name, a, b)
#define SN_PROBE3(name, a, b, c) DTRACE_PROBE3(snest, name, a, b, c)
#define SN_PROBE4(name, a, b, c, d) DTRACE_PROBE4(snest, name, a, b, c, d)
#else
#define SN_PROBE1(name, a) ((void)0)
#define SN_PROBE2(name, a, b) ((void)0)
#define SN_PROBE3(name, a, b, c) ((void)0)
#define SN_PROBE4(name, a, b, c, d) ((void)0)
#endif

#endif
