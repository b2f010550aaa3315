/* SPDX-License-Identifier: MIT */
/*
 * A few words of guest memory for hand-made tables. For tests only.
 */
#include "support/tablebuf.h"

#include <stdlib.h>
#include <string.h>

void tablebuf_init(struct tablebuf *buf, uint64_t last)
{
	memset(buf, 0, sizeof(*buf));
	buf->last = last;
}

uint64_t tablebuf_get(const struct tablebuf *buf, uint64_t addr)
{
	for (unsigned i = 0; i < buf->used; i++) {
		if (buf->word[i].addr == (addr & ~(uint64_t)7))
			return buf->word[i].value;
	}
	return 0;
}

void tablebuf_put(struct tablebuf *buf, uint64_t addr, uint64_t value)
{
	unsigned i = 0;

	while (i < buf->used && buf->word[i].addr != addr)
		i++;
	if (i == TABLEBUF_WORDS)
		abort();
	if (i == buf->used)
		buf->used++;
	buf->word[i].addr = addr;
	buf->word[i].value = value;
}

void tablebuf_put32(struct tablebuf *buf, uint64_t addr, uint32_t value)
{
	unsigned shift = addr & 4 ? 32 : 0;
	uint64_t word = tablebuf_get(buf, addr);

	word &= ~((uint64_t)UINT32_MAX << shift);
	word |= (uint64_t)value << shift;
	tablebuf_put(buf, addr & ~(uint64_t)7, word);
}

static bool buf_read(void *opaque, uint64_t addr, unsigned bytes, uint64_t *value)
{
	struct tablebuf *buf = opaque;

	if (addr > buf->last)
		return false;
	*value = tablebuf_get(buf, addr);
	if (bytes == 4)
		*value = (uint32_t)(*value >> (addr & 4 ? 32 : 0));
	return true;
}

static bool buf_write(void *opaque, uint64_t addr, unsigned bytes, uint64_t value)
{
	struct tablebuf *buf = opaque;

	if (addr > buf->last || buf->read_only)
		return false;
	if (bytes == 4)
		tablebuf_put32(buf, addr, (uint32_t)value);
	else
		tablebuf_put(buf, addr, value);
	buf->writes++;
	return true;
}

struct ref_result tablebuf_walk(struct tablebuf *buf, const struct snest_stage *stage,
                                uint64_t input, uint32_t access)
{
	struct ref_memory mem = {buf_read, buf_write, buf};
	struct ref_result result;

	ref_walk(stage, &mem, input, access, true, &result);
	return result;
}
