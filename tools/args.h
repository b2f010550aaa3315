/* SPDX-License-Identifier: MIT */
/*
 * Strict reading of what a user types: numbers, ranges, requester ids, rights,
 * lists of key=value. Each function returns false for anything that it does
 * not understand wholly, changes nothing then, and has a companion text that
 * says what would be right.
 */
#ifndef SN_TOOLS_ARGS_H
#define SN_TOOLS_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "4096", "0x1000", "4K", "2M", "1G", "1T": at most 64 bits. */
bool sn_args_u64(const char *text, uint64_t *value);
/* The same, at most `max`. */
bool sn_args_max(const char *text, uint64_t max, uint64_t *value);
#define SN_ARGS_NUMBER "a number such as 0x1000, 4096 or 4K"

/* "FIRST-LAST" (inclusive, first <= last), "FIRST+SIZE" or "all". */
bool sn_args_range(const char *text, uint64_t *first, uint64_t *last);
#define SN_ARGS_RANGE "FIRST-LAST (inclusive), FIRST+SIZE or all"

/* "00:03.0" (bus:device.function, hexadecimal) or a number. */
bool sn_args_rid(const char *text, uint32_t *rid);
#define SN_ARGS_RID "BUS:DEVICE.FUNCTION in hexadecimal, such as 00:03.0, or a number such as 0x18"

/* Letters r, w, x, each at most once, or "none". Gives SNEST_READ, ... */
bool sn_args_rights(const char *text, uint32_t *rights);
#define SN_ARGS_RIGHTS "letters of rwx, such as rw, or none"

/*
 * Cuts "key=value,key=value" in place. Each call gives the next pair; *value is
 * NULL if there was no '='. false at the end.
 */
bool sn_args_pair(char **text, char **key, char **value);

#endif
