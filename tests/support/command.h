/* SPDX-License-Identifier: MIT */
/*
 * The snest command as a user meets it: runs the program named by SNEST_COMMAND
 * in a folder of the test's own, and looks at what it printed. For tests only;
 * include after cmocka.h.
 */
#ifndef COMMAND_H
#define COMMAND_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct fixture {
	char dir[64];
	char *output; /* of the last run: stdout and stderr together */
	size_t length;
	int status;
};

/* Runs a shell's command. Output and status are in the fixture afterwards. */
static inline void run_shell(struct fixture *f, const char *command)
{
	size_t capacity = 1 << 16, n;
	FILE *pipe = popen(command, "r");
	int status;

	assert_non_null(pipe);
	free(f->output);
	f->output = malloc(capacity);
	assert_non_null(f->output);
	f->length = 0;
	while ((n = fread(f->output + f->length, 1, capacity - f->length - 1, pipe)) > 0) {
		f->length += n;
		if (capacity - f->length < 2) {
			capacity *= 2;
			f->output = realloc(f->output, capacity);
			assert_non_null(f->output);
		}
	}
	f->output[f->length] = '\0';
	status = pclose(pipe);
	if (!WIFEXITED(status))
		fail_msg("%s: killed by signal %d", command, WTERMSIG(status));
	f->status = WEXITSTATUS(status);
}

/* Runs `snest` + arguments in the fixture's folder. As above. */
__attribute__((format(printf, 2, 3))) static inline void run(struct fixture *f, const char *format,
                                                             ...)
{
	char command[2048], arguments[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(arguments, sizeof(arguments), format, args);
	va_end(args);
	snprintf(command, sizeof(command), "cd '%s' && exec '%s' 2>&1 %s", f->dir,
	         getenv("SNEST_COMMAND"), arguments);
	run_shell(f, command);
}

static inline void says(const struct fixture *f, const char *text)
{
	if (!strstr(f->output, text))
		fail_msg("'%s' is not in:\n%s", text, f->output);
}

static inline void says_not(const struct fixture *f, const char *text)
{
	if (strstr(f->output, text))
		fail_msg("'%s' is in:\n%s", text, f->output);
}

static inline void ends(const struct fixture *f, int status)
{
	if (f->status != status)
		fail_msg("status %d instead of %d:\n%s", f->status, status, f->output);
}

static inline struct fixture *fixture_create(void)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");

	assert_non_null(f);
	snprintf(f->dir, sizeof(f->dir), "%.40s/snest-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->dir));
	return f;
}

static inline int fixture_teardown(void **state)
{
	struct fixture *f = *state;
	char command[128];

	snprintf(command, sizeof(command), "rm -r '%s'", f->dir);
	assert_int_equal(system(command), 0);
	free(f->output);
	free(f);
	return 0;
}

static inline void write_file(const struct fixture *f, const char *name, const void *bytes,
                              size_t n)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	file = fopen(path, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, n, file), n);
	assert_int_equal(fclose(file), 0);
}

/* ---- JSON ---------------------------------------------------------------- */

static inline const char *skip_space(const char *s)
{
	return s + strspn(s, " \n");
}

/* Behind one JSON value, NULL if it is none. Knows what RFC 8259 knows, up to some depth. */
static inline const char *json_value(const char *s, unsigned depth)
{
	char close = *s == '{' ? '}' : ']';
	bool object = *s == '{';

	if (depth > 16)
		return NULL;
	if (*s == '"') {
		for (s++; *s != '"'; s++) {
			if ((unsigned char)*s < 0x20 || (unsigned char)*s > 0x7e)
				return NULL;
			if (*s == '\\' && !*++s)
				return NULL;
		}
		return s + 1;
	}
	if (*s != '{' && *s != '[') {
		size_t n = strcspn(s, ",]} \n");
		bool word = (n == 4 && !strncmp(s, "true", n)) ||
		            (n == 4 && !strncmp(s, "null", n)) ||
		            (n == 5 && !strncmp(s, "false", n));

		return n && (word || strspn(s, "0123456789") == n) ? s + n : NULL;
	}
	s = skip_space(s + 1);
	if (*s == close)
		return s + 1;
	for (;;) {
		if (object) {
			s = *s == '"' ? json_value(s, depth + 1) : NULL;
			if (!s || *s != ':')
				return NULL;
			s = skip_space(s + 1);
		}
		s = json_value(s, depth + 1);
		if (!s)
			return NULL;
		s = skip_space(s);
		if (*s == close)
			return s + 1;
		if (*s != ',')
			return NULL;
		s = skip_space(s + 1);
	}
}

static inline void is_json(const struct fixture *f)
{
	const char *end = json_value(f->output, 0);

	if (!end || strcmp(end, "\n"))
		fail_msg("not JSON:\n%s", f->output);
}

#endif
