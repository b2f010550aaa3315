/* SPDX-License-Identifier: MIT */
/*
 * The plug-in and its process (tools/difffuzz.h).
 *
 * Nothing of the plug-in runs in the tool's own process, not even what the
 * dynamic linker runs when it is loaded. The two share the memory that holds the
 * tables and one page of questions and answers, and take turns: a byte over a
 * socket pair says "your turn". A process that ends closes its socket, so a crash
 * is seen at once; one that does not answer in time is killed. The next question
 * starts a new process.
 */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tools/difffuzz.h"

/* Loading and opening may be slow whatever the time for an answer is. */
#define OPEN_MS 10000

enum command {
	COMMAND_OPEN = 1,
	COMMAND_ASK,
};

/* Where the process is; for messages. */
enum phase {
	PHASE_LOAD,
	PHASE_OPEN,
	PHASE_BEGIN,
	PHASE_TRANSLATE,
};

/* Shared. What the process writes is only believed after it was checked. */
struct sn_diff_channel {
	/* Written by the tool. */
	uint32_t command;
	uint32_t stage;
	struct snest_stage shape;
	uint64_t high, root, root_high;
	uint32_t count;
	struct sn_diff_question question[SN_DIFF_QUESTIONS];
	/* Written by the process. */
	uint32_t phase;
	uint32_t at; /* question that is being answered */
	int32_t error;
	char text[160];
	struct snest_walker declared;
	char name[SN_DIFF_NAME];
	struct snest_walker_answer answer[SN_DIFF_QUESTIONS];
};

/* ---- In the process ----------------------------------------------------------- */

/* One stage, open. */
struct opened {
	bool open;
	void *state;
	struct snest_stage stage;
	struct snest_walker_region region[2];
	struct snest_walker_memory memory;
};

static struct opened opened[SN_DIFF_STAGES_MAX];

static char *find(const struct snest_walker_memory *memory, uint64_t gpa, size_t length)
{
	for (size_t i = 0; i < memory->count; i++) {
		const struct snest_walker_region *region = &memory->region[i];
		uint64_t offset = gpa - region->first;

		if (gpa >= region->first && offset < region->bytes &&
		    length <= region->bytes - offset)
			return (char *)region->data + offset;
	}
	return NULL;
}

static int memory_read(const struct snest_walker_memory *memory, uint64_t gpa, void *buf,
                       size_t length)
{
	const char *at = find(memory, gpa, length);

	if (!at)
		return -EFAULT;
	memcpy(buf, at, length);
	return 0;
}

static int memory_write(const struct snest_walker_memory *memory, uint64_t gpa, const void *buf,
                        size_t length)
{
	char *at = find(memory, gpa, length);

	if (!at)
		return -EFAULT;
	memcpy(at, buf, length);
	return 0;
}

static int failed(struct sn_diff_channel *channel, int error, const char *text)
{
	channel->error = error;
	snprintf(channel->text, sizeof(channel->text), "%s", text);
	return error;
}

static int do_open(const struct snest_walker *walker, struct sn_diff_channel *channel,
                   uint64_t *words)
{
	struct opened *o = &opened[channel->stage % SN_DIFF_STAGES_MAX];
	const char *why = NULL;
	int ret;

	channel->phase = PHASE_OPEN;
	*o = (struct opened){
		.stage = channel->shape,
		.region = {{0, IMAGE_BYTES, words}, {channel->high, IMAGE_BYTES, words}},
		.memory = {.size = sizeof(o->memory),
	                   .region = o->region,
	                   .count = 2,
	                   .read = memory_read,
	                   .write = memory_write},
	};
	ret = walker->open(&o->memory, &o->stage, &o->state, &why);
	if (ret)
		return failed(channel, ret, why ? why : strerror(abs(ret)));
	o->open = true;
	channel->shape = o->stage;
	return 0;
}

static int do_ask(const struct snest_walker *walker, struct sn_diff_channel *channel)
{
	struct opened *o = &opened[channel->stage % SN_DIFF_STAGES_MAX];
	int ret;

	channel->phase = PHASE_BEGIN;
	ret = walker->begin(o->state, channel->root, channel->root_high);
	if (ret)
		return failed(channel, ret, "begin");
	channel->phase = PHASE_TRANSLATE;
	for (uint32_t i = 0; i < channel->count; i++) {
		struct snest_walker_answer *answer = &channel->answer[i];

		/* The tool must see where a crash happened: no store may be left out or wait. */
		__atomic_store_n(&channel->at, i, __ATOMIC_RELEASE);
		memset(answer, 0, sizeof(*answer));
		answer->size = sizeof(*answer);
		ret = walker->translate(o->state, channel->question[i].iova,
		                        channel->question[i].access, answer);
		if (ret)
			return failed(channel, ret, "translate");
	}
	__atomic_store_n(&channel->at, channel->count, __ATOMIC_RELEASE);
	return 0;
}

/* Loads the plug-in and copies its declaration. NULL: channel->text says why. */
static const struct snest_walker *load(const char *file, struct sn_diff_channel *channel)
{
	const struct snest_walker *(*get)(void);
	const struct snest_walker *walker;
	char path[4096];
	void *library;

	/* Without a slash the linker would look elsewhere. */
	snprintf(path, sizeof(path), "%s%s", strchr(file, '/') ? "" : "./", file);
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		failed(channel, -ENOENT, dlerror());
		return NULL;
	}
	*(void **)&get = dlsym(library, SNEST_WALKER_SYMBOL);
	if (!get) {
		failed(channel, -ENOENT, "it does not export " SNEST_WALKER_SYMBOL);
		return NULL;
	}
	walker = get();
	if (!walker) {
		failed(channel, -EOPNOTSUPP, "it says that it cannot be used here");
		return NULL;
	}
	if (walker->size < offsetof(struct snest_walker, translate) + sizeof(walker->translate) ||
	    walker->version != SNEST_WALKER_VERSION) {
		failed(channel, -EINVAL, "");
		snprintf(channel->text, sizeof(channel->text),
		         "it is made for version %u of snest/walker.h, this is version %u",
		         walker->version, SNEST_WALKER_VERSION);
		return NULL;
	}
	if (!walker->open || !walker->begin || !walker->translate) {
		failed(channel, -EINVAL, "open, begin or translate is missing");
		return NULL;
	}
	channel->declared = *walker;
	snprintf(channel->name, sizeof(channel->name), "%s", walker->name ? walker->name : file);
	return walker;
}

static _Noreturn void serve(const char *file, struct sn_diff_channel *channel, uint64_t *words,
                            int fd)
{
	const struct snest_walker *walker;
	struct rlimit none = {0, 0};
	char turn = 0;

	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_IGN); /* the tool ends in its own time */
	/* Results go to standard output; what a plug-in prints is something else. */
	dup2(STDERR_FILENO, STDOUT_FILENO);
	channel->phase = PHASE_LOAD;
	channel->error = 0;
	walker = load(file, channel);
	while (write(fd, &turn, 1) == 1 && walker && read(fd, &turn, 1) == 1) {
		channel->error = 0;
		if (channel->command == COMMAND_OPEN)
			do_open(walker, channel, words);
		else
			do_ask(walker, channel);
	}
	for (size_t i = 0; walker && walker->close && i < SN_DIFF_STAGES_MAX; i++) {
		if (opened[i].open)
			walker->close(opened[i].state);
	}
	_exit(0);
}

/* ---- In the tool ---------------------------------------------------------------- */

/*
 * Waits for the end of the process. One that closed its socket and lives on is
 * killed: it would be waited for in vain.
 */
static int reap(struct sn_diff_walker *walker)
{
	int status = 0;

	for (unsigned waited_us = 0; waited_us < OPEN_MS * 1000; waited_us += 50) {
		pid_t pid = waitpid(walker->pid, &status, WNOHANG);

		if (pid == walker->pid || (pid < 0 && errno != EINTR))
			return status;
		usleep(50);
	}
	kill(walker->pid, SIGKILL);
	while (waitpid(walker->pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

/* The process has ended, or is made to; what is known about how goes to walker->text. */
static void end(struct sn_diff_walker *walker, bool kill_it)
{
	static const char *const phases[] = {
		[PHASE_LOAD] = "being loaded",
		[PHASE_OPEN] = "open",
		[PHASE_BEGIN] = "begin",
		[PHASE_TRANSLATE] = "translate",
	};
	uint32_t phase = walker->channel->phase;
	const char *where = phases[phase <= PHASE_TRANSLATE ? phase : PHASE_TRANSLATE];
	int status;

	if (kill_it)
		kill(walker->pid, SIGKILL);
	status = reap(walker);
	close(walker->fd);
	walker->pid = 0;
	if (kill_it)
		snprintf(walker->text, sizeof(walker->text), "no answer in %u ms, in %s",
		         walker->timeout_ms, where);
	else if (WIFSIGNALED(status))
		snprintf(walker->text, sizeof(walker->text), "ended by signal %d (%s) in %s",
		         WTERMSIG(status), strsignal(WTERMSIG(status)), where);
	else
		snprintf(walker->text, sizeof(walker->text), "ended its process, status %d, in %s",
		         WEXITSTATUS(status), where);
}

/* Waits for the process's turn to end. */
static enum sn_diff_end wait_turn(struct sn_diff_walker *walker, unsigned ms)
{
	struct pollfd poll_fd = {.fd = walker->fd, .events = POLLIN};
	char turn;
	int n;

	do {
		n = poll(&poll_fd, 1, (int)ms);
	} while (n < 0 && errno == EINTR);
	if (n == 0) {
		end(walker, true);
		return SN_DIFF_HUNG;
	}
	if (recv(walker->fd, &turn, 1, 0) != 1) {
		end(walker, false);
		return SN_DIFF_CRASHED;
	}
	walker->error = walker->channel->error;
	if (!walker->error)
		return SN_DIFF_DONE;
	memcpy(walker->text, walker->channel->text, sizeof(walker->text));
	walker->text[sizeof(walker->text) - 1] = '\0';
	return SN_DIFF_FAILED;
}

static enum sn_diff_end start(struct sn_diff_walker *walker)
{
	int fds[2];

	/* What is buffered must not be printed twice. */
	fflush(NULL);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)) {
		walker->error = -errno;
		snprintf(walker->text, sizeof(walker->text), "socketpair: %s", strerror(errno));
		return SN_DIFF_FAILED;
	}
	memset(opened, 0, sizeof(opened));
	walker->pid = fork();
	if (walker->pid == 0) {
		close(fds[0]);
		serve(walker->file, walker->channel, walker->words, fds[1]);
	}
	close(fds[1]);
	walker->fd = fds[0];
	if (walker->pid < 0) {
		close(walker->fd);
		walker->pid = 0;
		walker->error = -errno;
		snprintf(walker->text, sizeof(walker->text), "fork: %s", strerror(errno));
		return SN_DIFF_FAILED;
	}
	return wait_turn(walker, OPEN_MS);
}

static void *shared(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

int sn_diff_walker_start(const struct sn_tool *tool, struct sn_diff_walker *walker)
{
	enum sn_diff_end ended;
	char *memory;

	walker->pid = 0;
	walker->channel = shared(sizeof(*walker->channel));
	/* Aligned as plug-ins are promised; the rest is never touched. */
	walker->memory = memory = shared(2 * IMAGE_BYTES);
	if (!walker->channel || !memory)
		return sn_tool_error(tool, "out of memory");
	walker->words = (uint64_t *)(((uintptr_t)memory + 0xffff) & ~(uintptr_t)0xffff);
	ended = start(walker);
	if (ended != SN_DIFF_DONE)
		return sn_tool_error(tool, "--walker %s: %s", walker->file, walker->text);
	walker->declared = walker->channel->declared;
	memcpy(walker->name, walker->channel->name, sizeof(walker->name));
	walker->name[sizeof(walker->name) - 1] = '\0';
	return 0;
}

void sn_diff_walker_stop(struct sn_diff_walker *walker)
{
	struct pollfd poll_fd = {.fd = walker->fd, .events = POLLIN};

	/* It reads the end, closes its stages, ends. */
	if (walker->pid) {
		shutdown(walker->fd, SHUT_WR);
		end(walker, poll(&poll_fd, 1, OPEN_MS) == 0);
	}
	if (walker->channel)
		munmap(walker->channel, sizeof(*walker->channel));
	if (walker->memory)
		munmap(walker->memory, 2 * IMAGE_BYTES);
}

static void give_turn(struct sn_diff_walker *walker)
{
	char turn = 0;

	/* If the process is gone already, the wait that follows finds out. */
	(void)send(walker->fd, &turn, 1, MSG_NOSIGNAL);
}

enum sn_diff_end sn_diff_walker_open(struct sn_diff_walker *walker, unsigned index,
                                     struct snest_stage *stage, uint64_t high)
{
	struct sn_diff_channel *channel = walker->channel;
	enum sn_diff_end ended = walker->pid ? SN_DIFF_DONE : start(walker);

	if (ended != SN_DIFF_DONE)
		return ended;
	channel->command = COMMAND_OPEN;
	channel->stage = index;
	channel->shape = *stage;
	channel->high = high;
	give_turn(walker);
	ended = wait_turn(walker, OPEN_MS);
	if (ended == SN_DIFF_DONE) {
		stage->flags = channel->shape.flags;
		/* The tool's record of what its process has open; see start(). */
		opened[index].open = true;
	}
	return ended;
}

void sn_diff_walker_ask(struct sn_diff_walker *walker, const struct snest_stage *stage,
                        uint64_t high, const struct sn_diff_case *c)
{
	struct sn_diff_channel *channel = walker->channel;
	struct snest_stage shape = *stage;

	walker->pending = SN_DIFF_DONE;
	if (!walker->pid || !opened[c->stage].open) {
		shape.root = shape.root_high = 0;
		walker->pending = sn_diff_walker_open(walker, c->stage, &shape, high);
	}
	channel->at = 0;
	if (walker->pending != SN_DIFF_DONE)
		return;
	channel->command = COMMAND_ASK;
	channel->stage = c->stage;
	channel->root = c->root;
	channel->root_high = c->root_high;
	channel->count = c->questions;
	memcpy(channel->question, c->question, c->questions * sizeof(c->question[0]));
	give_turn(walker);
}

enum sn_diff_end sn_diff_walker_answers(struct sn_diff_walker *walker,
                                        const struct snest_walker_answer **answers)
{
	struct sn_diff_channel *channel = walker->channel;
	enum sn_diff_end ended = walker->pending;

	if (ended == SN_DIFF_DONE)
		ended = wait_turn(walker, walker->timeout_ms);
	walker->at = __atomic_load_n(&channel->at, __ATOMIC_ACQUIRE);
	if (walker->at > SN_DIFF_QUESTIONS)
		walker->at = SN_DIFF_QUESTIONS;
	*answers = channel->answer;
	return ended;
}

const struct snest_walker_answer *sn_diff_walker_answer(const struct sn_diff_walker *walker,
                                                        unsigned question)
{
	return &walker->channel->answer[question % SN_DIFF_QUESTIONS];
}
