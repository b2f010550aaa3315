/* SPDX-License-Identifier: MIT */
/*
 * Tells AddressSanitizer which bytes nobody may touch now. Nothing in other
 * builds. For allocators in core/ only.
 */
#ifndef SN_CORE_POISON_H
#define SN_CORE_POISON_H

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SN_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define SN_ASAN 1
#endif

#ifdef SN_ASAN
#include <sanitizer/asan_interface.h>
#define SN_POISON(ptr, size) __asan_poison_memory_region((ptr), (size))
#define SN_UNPOISON(ptr, size) __asan_unpoison_memory_region((ptr), (size))
#else
#define SN_POISON(ptr, size) ((void)(ptr), (void)(size))
#define SN_UNPOISON(ptr, size) ((void)(ptr), (void)(size))
#endif

#endif
