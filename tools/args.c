/* SPDX-License-Identifier: MIT */
/*
 * Strict reading of arguments (tools/args.h). Nothing here prints.
 */
#include "tools/args.h"
#include <ctype.h>
#include <snest/types.h>
#include <stdlib.h>
#include <string.h>

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 16;
}

/* Reads a number at *text and leaves *text behind it. */
static bool number(const char **text, uint64_t *value)
{
	static const char suffixes[] = "KMGTPE";
	const char *s = *text, *suffix;
	uint64_t base = 10, v = 0;

	if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
		base = 16;
		s += 2;
	}
	if ((uint64_t)digit(*s) >= base)
		return false;
	for (; (uint64_t)digit(*s) < base; s++) {
		if (__builtin_mul_overflow(v, base, &v) ||
		    __builtin_add_overflow(v, (uint64_t)digit(*s), &v))
			return false;
	}
	suffix = *s ? strchr(suffixes, toupper((unsigned char)*s)) : NULL;
	if (suffix) {
		if (__builtin_mul_overflow(v, (uint64_t)1024 << (10 * (suffix - suffixes)), &v))
			return false;
		s++;
	}
	*text = s;
	*value = v;
	return true;
}

bool sn_args_u64(const char *text, uint64_t *value)
{
	uint64_t v;

	if (!number(&text, &v) || *text)
		return false;
	*value = v;
	return true;
}

bool sn_args_max(const char *text, uint64_t max, uint64_t *value)
{
	uint64_t v;

	if (!sn_args_u64(text, &v) || v > max)
		return false;
	*value = v;
	return true;
}

bool sn_args_range(const char *text, uint64_t *first, uint64_t *last)
{
	uint64_t a, b;
	char kind;

	if (!strcmp(text, "all")) {
		*first = 0;
		*last = UINT64_MAX;
		return true;
	}
	if (!number(&text, &a))
		return false;
	kind = *text++;
	if (kind != '-' && kind != '+')
		return false;
	if (!sn_args_u64(text, &b))
		return false;
	if (kind == '+' && (b == 0 || __builtin_add_overflow(a, b - 1, &b)))
		return false;
	if (a > b)
		return false;
	*first = a;
	*last = b;
	return true;
}

/* Hexadecimal digits at *text, at least one, up to `max`. */
static bool hex_field(const char **text, unsigned max, unsigned *value)
{
	const char *s = *text;
	unsigned v = 0;

	if (digit(*s) > 15)
		return false;
	for (; digit(*s) < 16; s++) {
		v = v << 4 | (unsigned)digit(*s);
		if (v > max)
			return false;
	}
	*text = s;
	*value = v;
	return true;
}

bool sn_args_rid(const char *text, uint32_t *rid)
{
	unsigned bus, device, function;
	const char *s = text;
	uint64_t v;

	if (hex_field(&s, 0xff, &bus) && *s == ':') {
		s++;
		if (!hex_field(&s, 0x1f, &device) || *s++ != '.' || !hex_field(&s, 7, &function) ||
		    *s)
			return false;
		*rid = bus << 8 | device << 3 | function;
		return true;
	}
	if (!sn_args_max(text, UINT32_MAX, &v))
		return false;
	*rid = (uint32_t)v;
	return true;
}

bool sn_args_rights(const char *text, uint32_t *rights)
{
	static const char letters[] = "rwx";
	uint32_t all = 0;

	if (!strcmp(text, "none")) {
		*rights = 0;
		return true;
	}
	if (!*text)
		return false;
	for (; *text; text++) {
		const char *letter = strchr(letters, *text);
		uint32_t bit;

		if (!letter)
			return false;
		bit = SNEST_READ << (letter - letters);
		if (all & bit)
			return false;
		all |= bit;
	}
	*rights = all;
	return true;
}

bool sn_args_pair(char **text, char **key, char **value)
{
	char *s = *text, *end, *equals;

	if (!s)
		return false;
	end = strchr(s, ',');
	if (end)
		*end++ = '\0';
	*text = end;
	equals = strchr(s, '=');
	if (equals)
		*equals++ = '\0';
	*key = s;
	*value = equals;
	return true;
}
