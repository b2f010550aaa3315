/* SPDX-License-Identifier: MIT */
/*
 * Replays inputs without libFuzzer: main() for gcc, for AFL++ and for the
 * regression corpus. Arguments are files and folders; each file is one input.
 * Without arguments one input is read from standard input, as AFL++ gives it.
 */
#include <dirent.h>
#include <sys/stat.h>

#include "fuzz.h"

static unsigned long inputs;
static uint8_t buffer[FUZZ_INPUT_MAX];

/* Flips one bit: for mutators that are called outside libFuzzer. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size)
{
	(void)max_size;
	if (size)
		data[size / 2] ^= 1;
	return size;
}

static void replay(FILE *file)
{
	size_t size = fread(buffer, 1, sizeof(buffer), file);
	/* A block of exactly this size, so that AddressSanitizer sees its end. */
	uint8_t *data = malloc(size ? size : 1);

	if (!data)
		abort();
	memcpy(data, buffer, size);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	inputs++;
}

static int replay_path(const char *path)
{
	struct stat info;
	FILE *file;

	if (stat(path, &info)) {
		perror(path);
		return 1;
	}
	if (S_ISDIR(info.st_mode)) {
		struct dirent **list;
		int n = scandir(path, &list, NULL, alphasort), ret = 0;

		for (int i = 0; i < n; i++) {
			char name[4096];

			if (list[i]->d_name[0] != '.') {
				snprintf(name, sizeof(name), "%s/%s", path, list[i]->d_name);
				ret |= replay_path(name);
			}
			free(list[i]);
		}
		if (n >= 0)
			free(list);
		return ret;
	}
	file = fopen(path, "rb");
	if (!file) {
		perror(path);
		return 1;
	}
	if (getenv("FUZZ_VERBOSE"))
		fprintf(stderr, "%s\n", path);
	replay(file);
	fclose(file);
	return 0;
}

int main(int argc, char **argv)
{
	int ret = 0;

	if (argc < 2)
		replay(stdin);
	for (int i = 1; i < argc; i++)
		ret |= replay_path(argv[i]);
	printf("%lu inputs\n", inputs);
	return ret;
}
