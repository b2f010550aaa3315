/* SPDX-License-Identifier: MIT */
/* Writes the first inputs of the target it is linked with into a folder: seed FOLDER. */
#include "fuzz.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size)
{
	(void)data;
	(void)max_size;
	return size;
}

int main(int argc, char **argv)
{
	static uint8_t data[FUZZ_INPUT_MAX];
	size_t size;

	if (argc != 2) {
		fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
		return 2;
	}
	for (unsigned n = 0; (size = fuzz_seed(n, data, sizeof(data))); n++) {
		char name[4096];
		FILE *file;

		snprintf(name, sizeof(name), "%s/seed-%03u", argv[1], n);
		file = fopen(name, "wb");
		if (!file || fwrite(data, 1, size, file) != size || fclose(file)) {
			perror(name);
			return 1;
		}
	}
	return 0;
}
