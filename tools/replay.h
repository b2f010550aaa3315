/* SPDX-License-Identifier: MIT */
/*
 * `snest replay`: the recorded life of a guest, lived again.
 *
 * One trace is applied event by event: guest memory, register writes, and at
 * each recorded answer the same DMA is translated through snest's front end and
 * compared. What is compared with what:
 *
 *   answers   recorded, freshly walked and from the shadow: replay_check.c, with
 *             what was true before from replay_history.c
 *   mirrors   a sink's list against a fresh walk: replay_mirror.c keeps the
 *             lists, replay_compare.c judges
 *   readers   threads that look up all the time, against what is legal at that
 *             moment: replay_slots.c says what is, replay_readers.c asks
 *
 * replay_run.c applies events, replay_state.c saves and restores in the middle,
 * replay_life.c and replay_svg.c draw, replay_report.c and replay_json.c print.
 * One thread, but for replay_readers.c.
 */
#ifndef SN_TOOLS_REPLAY_H
#define SN_TOOLS_REPLAY_H

#include <snest/device.h>
#include <snest/space.h>
#include <snest/vtd.h>
#include "tools/json.h"
#include "tools/sparse.h"
#include "tools/tool.h"
#include "tools/trace.h"

/* What a translation came to. */
struct sn_answer {
	bool ok;
	bool cut;       /* ends within a page, which is never right */
	uint8_t rights; /* SNEST_READ, SNEST_WRITE */
	uint8_t lg2;    /* size of the translation; 0: not told */
	uint32_t code;  /* fault code, 0: none reported */
	uint64_t gpa;
};

/* Times in nanoseconds, in buckets of an eighth of a power of two. */
struct sn_histogram {
	uint64_t count, total, max;
	uint64_t bucket[64 * 8];
};

/* Monotonic time in nanoseconds. */
uint64_t sn_replay_now(void);
void sn_histogram_add(struct sn_histogram *histogram, uint64_t ns);
/* The time that `percent` of the entries do not exceed; 0 if there are none. */
uint64_t sn_histogram_at(const struct sn_histogram *histogram, double percent);

/* A wrong answer, for the report. */
struct sn_wrong {
	uint64_t line;
	const char *judge; /* which comparison failed */
	uint32_t rid, pasid;
	uint64_t iova;
	bool write;
	struct sn_answer expected, got;
	struct snest_context context;
	struct snest_walk_step step[16];
	size_t steps;
};

/* A wrong range of a mirror. */
struct sn_mirror_wrong {
	uint64_t line;
	const char *judge;
	uint32_t rid;
	uint64_t first, last;
	struct sn_answer tables, sink; /* at `first`; gpa is a host address */
};

/* A wrong answer that a reader got. */
struct sn_reader_wrong {
	uint64_t line; /* that was being applied */
	uint32_t rid, pasid;
	uint64_t iova;
	bool write;
	struct sn_answer got;
	uint64_t stamp;    /* what the page said, see replay_slots.c */
	uint64_t legal[4]; /* as in struct sn_slot */
};
#define SN_WRONG_MAX 8

struct sn_replay_counts {
	uint64_t events[SN_TRACE_ANSWER + 1];
	uint64_t checked, cached, agreed, stale, wrong;
	uint64_t lookup_ns;
	uint64_t commands_wrong; /* the VMM consumed them, and the front end did not */
	uint64_t table_bytes_max;
	/* mirrors: comparisons, those of everything, pieces compared, and what sinks were told */
	uint64_t mirror_checks, mirror_full, mirror_pieces, mirror_wrong;
	uint64_t mirror_maps, mirror_unmaps, mirror_batches, mirror_pages;
	/* readers: lookups, those that could be judged, and found wrong */
	uint64_t reader_lookups, reader_judged, reader_wrong;
};

struct sn_replay_options {
	bool mirror;
	bool mirror_auto; /* only those guests that announce what they map */
	bool quiet;       /* no progress */
	bool json;
	unsigned threads;
	const char *svg;     /* file to draw into; NULL: none */
	const char *save;    /* file to save to; NULL: none */
	uint64_t save_line;  /* in front of the first event at or behind this line */
	const char *restore; /* file to start from; NULL: none */
};

struct sn_history;
struct sn_mirrors;
struct sn_slots;
struct sn_readers;
struct sn_life;

struct sn_replay {
	const struct sn_replay_options *options;
	struct sn_tool *tool;
	const char *file;
	struct sn_trace *trace;
	struct sn_sparse *memory;
	struct snest_vm *vm;
	struct snest_vtd *vtd;
	struct snest_vtd_registers registers; /* rtaddr as latched, for the fresh walk */
	uint64_t rtaddr_written;
	bool enabled;        /* GSTS.TE */
	bool mirrored;       /* the mirrors are kept */
	bool complete;       /* the last event was applied, without an error */
	bool check_due;      /* the mirrors are to be compared behind the commands that follow */
	uint64_t saved_line; /* stopped in front of it, to be restored later; 0: not */
	uint64_t line;       /* of the event at hand */
	uint64_t restored;   /* line at which a restored replay goes on; 0: from the beginning */
	struct sn_history *history;
	struct sn_mirrors *mirrors;
	struct sn_slots *slots;     /* NULL: no readers */
	struct sn_readers *readers; /* NULL: no readers */
	struct sn_life *life;       /* NULL: no picture */
	struct sn_replay_counts counts;
	struct sn_histogram doorbell; /* one tail write, its drain included */
	struct sn_wrong wrong[SN_WRONG_MAX];
	struct sn_mirror_wrong mirror_wrong[SN_WRONG_MAX];
	struct sn_reader_wrong reader_wrong[SN_WRONG_MAX];
	struct snest_vm_stats vm_stats;   /* at the end */
	struct snest_vtd_stats vtd_stats; /* at the end */
	uint64_t elapsed_ns;
};

/*
 * Replays one file. 0, or a negative errno after a message. r->counts says how
 * it went. What is left in *r afterwards is for the report only.
 */
int sn_replay_run(struct sn_replay *r);

/* Wrong things of all kinds. */
uint64_t sn_replay_wrong(const struct sn_replay_counts *counts);

/* Resolves a request as the tables are now. With translation off it is pass-through. */
int sn_replay_context(struct sn_replay *r, uint32_t rid, uint32_t pasid, uint32_t access,
                      uint64_t iova, struct snest_context *context);

/* ---- replay_commands.c: what a descriptor covers ---- */

enum sn_cover_kind {
	SN_COVER_NONE,
	SN_COVER_IOTLB,   /* a range of a domain */
	SN_COVER_CONTEXT, /* cached device structures; domain is not set */
	SN_COVER_WAIT,    /* what came before is complete */
};

#define SN_ANY_DOMAIN UINT32_MAX

struct sn_cover {
	enum sn_cover_kind kind;
	uint32_t domain; /* or SN_ANY_DOMAIN */
	uint64_t first, last;
	bool page; /* page-selective */
};

void sn_cover_decode(const uint8_t *bytes, unsigned length, struct sn_cover *cover);
bool sn_cover_hits(const struct sn_cover *cover, uint32_t domain, uint64_t first, uint64_t last);

/* ---- replay_history.c: what was true, and until when it is legal ---- */

struct sn_known;

int sn_history_create(struct sn_history **history);
void sn_history_destroy(struct sn_history *history);
/* A tail write: the covers that follow belong to it. */
void sn_history_doorbell(struct sn_history *history);
/* Takes note of a command. 0 or -ENOMEM. */
int sn_history_cover(struct sn_history *history, uint64_t line, const struct sn_cover *cover);
/* The i-th cover since the latest tail write, NULL if there are fewer. */
const struct sn_cover *sn_history_recent(const struct sn_history *history, size_t i);
/* What is known of one page; made if there is nothing. NULL: out of memory. */
struct sn_known *sn_history_known(struct sn_history *history, uint32_t rid, uint32_t pasid,
                                  uint64_t iova, bool write);
/* `answer` is true at this line. */
void sn_history_remember(struct sn_known *known, const struct sn_answer *answer, uint64_t line);
/* Was this answer true before, and no command has covered it since? */
bool sn_history_legal(const struct sn_history *history, const struct sn_known *known,
                      uint32_t domain, const struct sn_answer *answer);
/* Do two answers mean the same for one page? Sizes are not compared. */
bool sn_answer_same(const struct sn_answer *a, const struct sn_answer *b);

/* ---- replay_check.c ---- */

/* Judges one recorded answer. 0 or -ENOMEM. */
int sn_replay_check(struct sn_replay *r, const struct sn_trace_event *event);

/* ---- replay_mirror.c, replay_compare.c ---- */

int sn_mirrors_create(struct sn_mirrors **mirrors);
void sn_mirrors_destroy(struct sn_mirrors *mirrors);
/* Attaches a sink to the device if it has none. 0 or -errno. */
int sn_replay_mirror(struct sn_replay *r, uint32_t rid);
/* Judges what the latest tail write did. 0 or -errno after a message. */
int sn_replay_mirror_check(struct sn_replay *r);
/* The same for everything, at the end. */
int sn_replay_mirror_finish(struct sn_replay *r);
unsigned sn_mirrors_count(const struct sn_mirrors *mirrors);
/* The first `max` requesters that have one. Returns how many were filled. */
unsigned sn_mirrors_rids(const struct sn_mirrors *mirrors, uint32_t *rids, unsigned max);
#define SN_MIRRORS_MAX 64

/* ---- replay_slots.c, replay_readers.c ---- */

/* Before the machine is built: host memory with stamps. 0 or -ENOMEM. */
int sn_slots_create(struct sn_replay *r);
void sn_slots_destroy(struct sn_slots *slots);
/* Host address of a GPA in RAM, and back. Identity without slots. */
uint64_t sn_replay_host(const struct sn_replay *r, uint64_t gpa);
uint64_t sn_replay_gpa(const struct sn_replay *r, uint64_t host);
/* Stores words, and keeps what is legal in step. Errors of sn_sparse_words. */
int sn_slots_words(struct sn_replay *r, uint64_t gpa, const uint64_t *words, unsigned count);
int sn_slots_store(struct sn_replay *r, uint64_t gpa, unsigned bytes, uint64_t value);
/* A command of a tail write that was processed. */
void sn_slots_command(struct sn_replay *r, const struct sn_cover *cover);
/* Around a register write that may change everything. */
void sn_slots_upset(struct sn_replay *r);
/* A device uses this address: readers may, too. 0 or -errno. */
int sn_slots_known(struct sn_replay *r, uint32_t rid, uint32_t pasid, uint64_t iova);
/* Is this answer of snest legal now, as far as the slots can tell? */
bool sn_slots_legal(const struct sn_replay *r, uint32_t rid, uint32_t pasid, uint64_t iova,
                    uint32_t access, const struct sn_answer *answer);

int sn_readers_start(struct sn_replay *r);
/* Stops them and adds up what they found. */
void sn_readers_stop(struct sn_replay *r);

/* ---- replay_state.c ---- */

/* Writes all that sn_replay_restore needs to go on at `line`. 0 or -errno after a message. */
int sn_replay_save(struct sn_replay *r, uint64_t line);
/* The machine is built: puts it into the saved state. 0 or -errno after a message. */
int sn_replay_restore(struct sn_replay *r);

/* ---- replay_life.c, replay_svg.c ---- */

/* Reads the whole trace once, to know its length and phases. 0 or -errno after a message. */
int sn_life_create(struct sn_replay *r);
void sn_life_destroy(struct sn_life *life);
/* Before each event is applied. */
void sn_life_event(struct sn_replay *r, const struct sn_trace_event *event);
void sn_life_command(struct sn_replay *r, const struct sn_cover *cover);
/* The life is over: writes the picture. 0 or -errno after a message. */
int sn_life_finish(struct sn_replay *r);

/* ---- replay_report.c, replay_json.c ---- */

void sn_replay_report(const struct sn_replay *r);
/* One object of the array of traces; the total. */
void sn_replay_json(struct sn_json *json, const struct sn_replay *r);
void sn_replay_json_total(struct sn_json *json, const struct sn_replay_counts *total);

#endif
