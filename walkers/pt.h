/* SPDX-License-Identifier: MIT */
/*
 * What every page-table format shares: a prepared stage, a decoded entry, and
 * the vocabulary of a format header.
 *
 * A format header walkers/fmt_<name>.h defines, for FMT = <name>:
 *
 *   constants
 *   <name>_ENTRY_LG2      3 or 2: an entry is 8 or 4 bytes
 *   <name>_ADDR_UP        a leaf holds its address shifted up (negative: down) by this; where
 *                         some bits are elsewhere, the others
 *   <name>_DENY_AT_LEAF   rights are checked once, at the leaf (else at every level)
 *   <name>_TOUCH_FIRST    the accessed flag is checked before the rights
 *   <name>_TABLE_A        the accessed flag also exists in table entries
 *
 *   functions (static inline, pure unless said)
 *   <name>_prepare(pt, stage, why)      parameters -> struct sn_pt; 0 or -errno
 *   <name>_start(pt, in, &half)         input check: fault reason, or 0; and which root (that of
 *                                       a fault gives it its level)
 *   <name>_span(pt, i, &first, &last, &half) i-th interval of valid inputs, ascending; false: none
 *   <name>_shift(pt, half, level)       lowest bit of the index at a level
 *   <name>_index_bits(pt, half, level)  width of the index at a level (the root's may differ)
 *   <name>_decode(pt, half, level, raw) what an entry says, struct sn_entry
 *   <name>_deny(pt, grant, access)      fault reason if `grant` does not allow `access`
 *   <name>_deny_late(pt, grant, access, leaf) the same for what is checked after reserved bits
 *   <name>_rights(pt, grant, access)    what `grant` allows at the request's privilege
 *   <name>_touch(pt, raw, leaf, write)  raw as the IOMMU leaves it behind: accessed (dirty) set;
 *                                       with _TOUCH_FIRST `write` says that the rights allow it
 *   <name>_touch_mode(pt)               SN_TOUCH_*: what a missing flag means
 *   <name>_attr(pt, level, raw)         SNEST_ATTR_* of a leaf
 *
 *   and to write
 *   <name>_leaf_sizes(pt, half, level)  bit n: a leaf of 2^n bytes may start at this level
 *   <name>_make_leaf(pt, half, level, lg2, addr, rights, attr, &raw)  0 or -EINVAL;
 *                                       flags that would fault when clear are set
 *   <name>_make_table(pt, half, level, next, addr)
 *
 * Levels count from 0, the level of the smallest pages. `half` is 1 for the
 * upper root of an Arm stage 1, else 0.
 */
#ifndef SN_WALKERS_PT_H
#define SN_WALKERS_PT_H

#include <snest/stage.h>
#include <snest/walk.h>

/* The most levels of any format (AMD v1, mode 6). */
#define SN_LEVELS_MAX 6

/*
 * What entries grant, ANDed from the root to the leaf. A format uses the bits
 * it needs; the others stay set.
 */
#define SN_GRANT_READ 0x1u
#define SN_GRANT_WRITE 0x2u
#define SN_GRANT_EXEC 0x4u /* unprivileged execution, or all execution */
#define SN_GRANT_USER 0x8u /* unprivileged access; who else may enter is the format's to say */
#define SN_GRANT_PRIV_EXEC 0x10u
#define SN_GRANT_ALL 0x1fu

/* A clear accessed or dirty flag ... */
#define SN_TOUCH_NONE 0u   /* means nothing */
#define SN_TOUCH_UPDATE 1u /* is set by compare-and-swap */
#define SN_TOUCH_FAULT 2u  /* faults */

/* A stage, checked and ready to walk. Everything a walk needs is precomputed. */
struct sn_pt {
	uint8_t format;
	uint8_t rights; /* SNEST_*; what leads to the table grants */
	uint8_t oa_bits;
	uint8_t top[2];     /* level of each root table */
	uint8_t ia_bits[2]; /* 0 in [1]: no upper half */
	uint8_t granule_lg2[2];
	uint32_t flags;
	uint64_t root[2];
	uint64_t out_mask; /* address bits an entry may hold */
	/* format's own, see its prepare */
	uint64_t reserved_leaf, reserved_table;
	uint8_t leaf_levels; /* bit n: leaves may exist at level n; Arm: upper half from bit 4 on */
};

enum sn_entry_kind {
	SN_ENTRY_FAULT, /* `early` or `late` says why */
	SN_ENTRY_TABLE,
	SN_ENTRY_LEAF,
};

struct sn_entry {
	uint8_t kind;  /* what it would be; `early` and `late` come first */
	uint8_t lg2;   /* leaf: size of the translation */
	uint8_t next;  /* table: level of the table it points to */
	uint8_t early; /* fault reason found before rights are looked at, or 0 */
	uint8_t late;  /* fault reason found after that, or 0 */
	uint8_t grant; /* SN_GRANT_* */
	uint64_t skip; /* table: input bits that must be 0 (skipped levels) */
	uint64_t addr; /* leaf: output address of its first byte; table: its address */
};

/* 2^bits - 1, for 0 <= bits <= 64. */
static inline uint64_t sn_mask(unsigned bits)
{
	return bits >= 64 ? UINT64_MAX : ((uint64_t)1 << bits) - 1;
}

/* Spans of formats whose input is zero-extended, and sign-extended; for <name>_span. */
static inline bool sn_span_zero(unsigned ia_bits, unsigned i, uint64_t *first, uint64_t *last)
{
	*first = 0;
	*last = sn_mask(ia_bits);
	return i == 0;
}

static inline bool sn_span_signed(unsigned ia_bits, unsigned i, uint64_t *first, uint64_t *last)
{
	*first = i ? ~sn_mask(ia_bits - 1) : 0;
	*last = i ? UINT64_MAX : sn_mask(ia_bits - 1);
	return i < 2;
}

/* The leaf found while translating for one stage. */
struct sn_leaf {
	uint64_t addr; /* output for exactly the input */
	uint64_t entry;
	uint64_t entry_addr;
	uint32_t attr;
	uint8_t level;
	uint8_t lg2;
	uint8_t rights; /* at the request's privilege */
};

struct sn_env;
struct sn_ranger;
struct sn_writer;

/* One compiled format. */
struct sn_format {
	const char *name;
	const char *const *level_names; /* by level from 0; NULL-terminated */
	int (*prepare)(struct sn_pt *pt, const struct snest_stage *stage, const char **why);
	/* 0, or the fault reason with env->fault filled */
	unsigned (*walk)(struct sn_env *env, unsigned k, uint64_t in, uint32_t access,
	                 struct sn_leaf *leaf);
	/* see walkers/range.h */
	int (*range)(struct sn_ranger *r, unsigned k, uint64_t first, uint64_t last, uint64_t iova);
	/* decodes one entry, for people to read */
	struct sn_entry (*decode)(const struct sn_pt *pt, unsigned half, unsigned level,
	                          uint64_t raw);
	uint32_t (*attr)(const struct sn_pt *pt, unsigned level, uint64_t raw);
	unsigned entry_lg2;
	/* see walkers/write.h */
	const struct sn_writer *writer;
};

/* By enum snest_format; NULL where there is none. Mock formats start at SN_FORMAT_MOCK. */
#define SN_FORMAT_MOCK 64u
const struct sn_format *sn_format(unsigned format);

extern const struct sn_format sn_format_x86_64;
extern const struct sn_format sn_format_vtd_ss;
extern const struct sn_format sn_format_amd_v1;
extern const struct sn_format sn_format_arm_s1;
extern const struct sn_format sn_format_arm_s2;
extern const struct sn_format sn_format_riscv32;
extern const struct sn_format sn_format_riscv64;
#ifdef SNEST_WITH_MOCK
extern const struct sn_format sn_format_mock;
#endif

/*
 * Checks a stage and prepares it. 0, or -EINVAL, -EOPNOTSUPP, -E2BIG with *why
 * (if not NULL) a sentence.
 */
int sn_pt_prepare(struct sn_pt *pt, const struct snest_stage *user, const char **why);

#endif
