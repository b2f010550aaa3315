/* SPDX-License-Identifier: MIT */
/*
 * A writer of JSON: one value after the other, straight to a stream.
 *
 * It puts commas, quotes and escapes where they belong; the caller opens and
 * closes objects and arrays. In an object every value has a key, in an array
 * none (NULL). Numbers that may need more than 53 bits go out as hexadecimal
 * strings, because many readers hold numbers as doubles.
 */
#ifndef SN_TOOLS_JSON_H
#define SN_TOOLS_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct sn_json {
	FILE *out;
	unsigned depth; /* brackets that are open, less than 32 */
	uint32_t lines; /* bit n: elements at depth n have lines of their own */
	bool first;     /* nothing was written yet at this depth */
};

void sn_json_begin(struct sn_json *json, FILE *out);
/* Ends the document: all must be closed. */
void sn_json_end(struct sn_json *json);

void sn_json_open(struct sn_json *json, const char *key, char bracket); /* '{' or '[' */
void sn_json_close(struct sn_json *json, char bracket);                 /* '}' or ']' */

void sn_json_string(struct sn_json *json, const char *key, const char *value); /* NULL: null */
void sn_json_hex(struct sn_json *json, const char *key, uint64_t value);
void sn_json_number(struct sn_json *json, const char *key, uint64_t value); /* below 2^53 */
void sn_json_bool(struct sn_json *json, const char *key, bool value);
void sn_json_null(struct sn_json *json, const char *key);

#endif
