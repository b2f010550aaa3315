/* SPDX-License-Identifier: MIT */
/*
 * The JSON writer (tools/json.h). Members of the two outer levels and objects
 * in arrays have lines of their own, so that large documents remain readable
 * and can be followed while they are written.
 */
#include "tools/json.h"
#include <inttypes.h>

#define LINE_DEPTH 2

static void text(struct sn_json *json, const char *s)
{
	fputc('"', json->out);
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		/* Names of files need not be UTF-8; a byte is then taken as Latin-1. */
		if (c == '"' || c == '\\')
			fprintf(json->out, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			fprintf(json->out, "\\u%04x", c);
		else
			fputc(c, json->out);
	}
	fputc('"', json->out);
}

static void element(struct sn_json *json, const char *key)
{
	if (!json->first)
		fputc(',', json->out);
	if (json->lines >> json->depth & 1)
		fprintf(json->out, "\n%*s", (int)json->depth * 2, "");
	else if (!json->first)
		fputc(' ', json->out);
	json->first = false;
	if (key) {
		text(json, key);
		fputs(": ", json->out);
	}
}

void sn_json_begin(struct sn_json *json, FILE *out)
{
	*json = (struct sn_json){.out = out, .first = true};
}

void sn_json_end(struct sn_json *json)
{
	fputc('\n', json->out);
}

void sn_json_open(struct sn_json *json, const char *key, char bracket)
{
	if (bracket == '{' && !key && json->depth)
		json->lines |= 1u << json->depth;
	element(json, key);
	fputc(bracket, json->out);
	json->depth++;
	if (bracket == '{' && json->depth <= LINE_DEPTH)
		json->lines |= 1u << json->depth;
	else
		json->lines &= ~(1u << json->depth);
	json->first = true;
}

void sn_json_close(struct sn_json *json, char bracket)
{
	if (!json->first && (json->lines >> json->depth & 1))
		fprintf(json->out, "\n%*s", (int)(json->depth - 1) * 2, "");
	fputc(bracket, json->out);
	json->depth--;
	json->first = false;
}

void sn_json_string(struct sn_json *json, const char *key, const char *value)
{
	if (!value) {
		sn_json_null(json, key);
		return;
	}
	element(json, key);
	text(json, value);
}

void sn_json_hex(struct sn_json *json, const char *key, uint64_t value)
{
	element(json, key);
	fprintf(json->out, "\"0x%" PRIx64 "\"", value);
}

void sn_json_number(struct sn_json *json, const char *key, uint64_t value)
{
	element(json, key);
	fprintf(json->out, "%" PRIu64, value);
}

void sn_json_bool(struct sn_json *json, const char *key, bool value)
{
	element(json, key);
	fputs(value ? "true" : "false", json->out);
}

void sn_json_null(struct sn_json *json, const char *key)
{
	element(json, key);
	fputs("null", json->out);
}
