/* SPDX-License-Identifier: MIT */
/*
 * `snest difffuzz`: somebody else's walker against snest's, on generated tables.
 *
 *   difffuzz_cmd.c     the loop, what is printed around it
 *   difffuzz_args.c    options (difffuzz_query.h)
 *   difffuzz_stages.c  the stages that are asked about
 *   difffuzz_case.c    cases: made from a seed and a number, loaded, answered, compared
 *   difffuzz_walker.c  the plug-in in its process: questions and answers, crashes, hangs
 *   difffuzz_reduce.c  a differing case made small
 *   difffuzz_show.c    a difference as text or JSON, and as an image
 *
 * A *case* is one memory with a table and a few questions about it. Case n of a
 * seed depends on nothing but the seed, n and the list of stages. Single-threaded.
 */
#ifndef SN_TOOLS_DIFFFUZZ_H
#define SN_TOOLS_DIFFFUZZ_H

#include <snest/walk.h>
#include <snest/walker.h>
#include "fuzz/bend.h"
#include "fuzz/plant.h"
#include "tools/json.h"
#include "tools/tool.h"

#define SN_DIFF_QUESTIONS 16
#define SN_DIFF_STAGES_MAX 48
#define SN_DIFF_NAME 64

struct sn_diff_question {
	uint64_t iova;
	uint32_t access;
	uint32_t reserved;
};

struct sn_diff_case {
	uint64_t number;
	unsigned stage; /* index into sn_diff.stage */
	unsigned questions;
	uint64_t root, root_high;
	struct sn_diff_question question[SN_DIFF_QUESTIONS];
	size_t bytes; /* of records */
	uint8_t records[FUZZ_INPUT_MAX];
};

/* Copies what is in use. */
void sn_diff_case_copy(struct sn_diff_case *to, const struct sn_diff_case *from);

/* ---- The other walker ------------------------------------------------------- */

/* How a call into its process ended. */
enum sn_diff_end {
	SN_DIFF_DONE,
	SN_DIFF_FAILED,  /* a function returned an error: `error`, `text` */
	SN_DIFF_CRASHED, /* the process ended: `text` */
	SN_DIFF_HUNG,    /* no answer in time; the process was ended */
};

struct sn_diff_channel;

struct sn_diff_walker {
	const char *file;
	unsigned timeout_ms;
	/* What it declared; `name` and pointers in it are not valid here, the name below is. */
	struct snest_walker declared;
	char name[SN_DIFF_NAME];
	/* Its memory: shared with its process. */
	uint64_t *words;
	/* Of the last call that was not SN_DIFF_DONE. */
	int error;
	unsigned at; /* the question that it did not answer */
	char text[160];
	/* Private. */
	struct sn_diff_channel *channel;
	void *memory;             /* what `words` lies in */
	enum sn_diff_end pending; /* how opening ended, between the two halves of a question */
	int pid, fd;
};

/*
 * Loads the plug-in in a new process and reads its declaration. 0, or an exit
 * status with a message printed. sn_diff_walker_stop is to be called in any case.
 */
int sn_diff_walker_start(const struct sn_tool *tool, struct sn_diff_walker *walker);
void sn_diff_walker_stop(struct sn_diff_walker *walker);

/* Opens a stage, whose flags may be changed. -EOPNOTSUPP in `error` is no failure. */
enum sn_diff_end sn_diff_walker_open(struct sn_diff_walker *walker, unsigned index,
                                     struct snest_stage *stage, uint64_t high);

/*
 * Asks all questions of a case, about walker->words. In two halves, so that the
 * caller can work meanwhile. *answers is valid until the next call; those from
 * walker->at on are missing unless all was done.
 */
void sn_diff_walker_ask(struct sn_diff_walker *walker, const struct snest_stage *stage,
                        uint64_t high, const struct sn_diff_case *c);
enum sn_diff_end sn_diff_walker_answers(struct sn_diff_walker *walker,
                                        const struct snest_walker_answer **answers);

/* Of the last call: its answer to a question, valid if the question was answered. */
const struct snest_walker_answer *sn_diff_walker_answer(const struct sn_diff_walker *walker,
                                                        unsigned question);

/* ---- Comparing ---------------------------------------------------------------- */

/* In what way the two differ. */
enum sn_diff_kind {
	SN_DIFF_NONE,
	SN_DIFF_MISSED_FAULT, /* it translates what snest refuses */
	SN_DIFF_EXTRA_FAULT,  /* it refuses what snest translates */
	SN_DIFF_ADDRESS,
	SN_DIFF_SIZE,
	SN_DIFF_RIGHTS,
	SN_DIFF_REASON,
	SN_DIFF_LEVEL,
	SN_DIFF_MEMORY,
	SN_DIFF_ERROR, /* it returned an error, or an answer that is none */
	SN_DIFF_CRASH,
	SN_DIFF_HANG,
	SN_DIFF_KINDS
};

/* Differences of one class are taken for one mistake. */
struct sn_diff_class {
	uint8_t kind;   /* enum sn_diff_kind */
	uint8_t reason; /* snest's reason, where it is the one that faults */
};

/* "missed-fault:write". */
const char *sn_diff_class_text(struct sn_diff_class class, char buf[SN_DIFF_NAME]);
/* A sentence about it. */
const char *sn_diff_kind_sentence(enum sn_diff_kind kind);
/* Whether a name stands for the class: its text, or its part in front of the colon. */
bool sn_diff_class_is(struct sn_diff_class class, const char *name);
/* Whether it is the name of any class. */
bool sn_diff_class_known(const char *name);

struct sn_diff_stage {
	char name[SN_DIFF_NAME];
	struct snest_stage stage; /* root: that of the current case */
	uint64_t high;            /* where memory is seen a second time */
	struct snest_vm *vm;
};

#define SN_DIFF_IGNORES_MAX 32
/* Distinct classes, with some room. */
#define SN_DIFF_CLASSES_MAX 64

struct sn_diff {
	const struct sn_tool *tool;
	struct sn_diff_walker walker;
	struct sn_diff_stage stage[SN_DIFF_STAGES_MAX];
	unsigned stages;
	uint32_t access[16]; /* that the walker can be asked */
	unsigned accesses;
	uint64_t seed;
	uint64_t *words; /* memory as snest sees it */
	uint64_t used;   /* bit n: page n may hold something */
	/* Classes that are not looked at: given, and already reported. */
	const char *ignore[SN_DIFF_IGNORES_MAX];
	unsigned ignores;
	struct sn_diff_class known[SN_DIFF_CLASSES_MAX];
	unsigned knowns;
	/* Counts. */
	uint64_t asked, compared, skipped; /* questions; skipped: of a class not looked at */
	/* The table that the cases of one family begin with. */
	uint64_t family;
	unsigned family_stage;
	size_t family_bytes;
	struct fuzz_planted planted;
	uint8_t family_records[FUZZ_INPUT_MAX];
};

/* A difference that was found, or looked for. */
struct sn_diff_found {
	struct sn_diff_class class;
	unsigned question;
};

/* Memory and a VM for the stage. 0 or a negative errno. */
int sn_diff_stage_create(struct sn_diff *d, unsigned index);
void sn_diff_stages_destroy(struct sn_diff *d);

/* Makes case `number`. */
void sn_diff_case_make(struct sn_diff *d, uint64_t number, struct sn_diff_case *c);

/* Writes the case's memory, for both. `whole` as below. */
void sn_diff_case_load(struct sn_diff *d, const struct sn_diff_case *c, bool whole);

/*
 * Asks both. Returns whether they differ in a way that is looked at: with
 * `only` NULL, one that is not ignored; else, exactly that class. The first such
 * difference is in *found. `whole`: clears all memory before, not only what the
 * case before had written.
 */
bool sn_diff_case_run(struct sn_diff *d, const struct sn_diff_case *c, bool whole,
                      const struct sn_diff_class *only, struct sn_diff_found *found);

/*
 * Makes the case small: it still differs in found->class. found->question is
 * set anew. Afterwards the case is the last that was run. false: it does not
 * differ when it is asked alone; what the walker says depends on what it was
 * asked before.
 */
bool sn_diff_reduce(struct sn_diff *d, struct sn_diff_case *c, struct sn_diff_found *found);

/* ---- Showing ------------------------------------------------------------------- */

/* One difference; its case is the last that was run. */
struct sn_diff_report {
	const struct sn_diff_case *reduced;
	struct sn_diff_found found;
	bool steady;          /* it happens again when the case is asked alone */
	unsigned number;      /* of the difference, from 1 */
	unsigned entries;     /* before the case was made small */
	const char *image;    /* where its memory is to be saved; NULL: nowhere */
	const char *again;    /* the command that finds it again */
	struct sn_json *json; /* NULL: text */
};

/* Saves the image, shows the difference. 0, or an exit status with a message printed. */
int sn_diff_show(struct sn_diff *d, const struct sn_diff_report *report);

/* "format=x86-64,root=0x1000,levels=4,flags=hw-a+nx", as snest walk reads it. */
#define SN_DIFF_STAGE_TEXT 512
const char *sn_diff_stage_text(const struct snest_stage *stage, char buf[SN_DIFF_STAGE_TEXT]);

#endif
