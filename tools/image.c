/* SPDX-License-Identifier: MIT */
/*
 * Memory images (tools/image.h).
 */
#include "tools/image.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tools/args.h"

#define PAGE ((uint64_t)4096)
/* Host addresses, here equal to GPAs, are below this (snest/vm.h). */
#define TOP ((uint64_t)1 << 52)

/* Cuts "FILE@GPA" apart. A name that holds an '@' itself needs an explicit "@0". */
static int parse(const struct sn_tool *tool, struct sn_image *image)
{
	char *at = strrchr(image->text, '@');

	image->file = image->text;
	image->base = 0;
	if (at) {
		*at = '\0';
		if (!sn_args_u64(at + 1, &image->base))
			return sn_tool_error(tool,
			                     "--memory %s@%s: the part behind @ is the GPA of the "
			                     "file's first byte, " SN_ARGS_NUMBER,
			                     image->text, at + 1);
	}
	if (!*image->file)
		return sn_tool_error(tool, "--memory: FILE or FILE@GPA is wanted");
	if (image->base % PAGE)
		return sn_tool_error(tool,
		                     "--memory %s: base 0x%" PRIx64 " is not a multiple of 4096",
		                     image->file, image->base);
	return 0;
}

static int map(const struct sn_tool *tool, struct sn_image *image)
{
	int fd = open(image->file, O_RDONLY | O_CLOEXEC);
	struct stat st;
	int status = 0;

	if (fd < 0)
		return sn_tool_error(tool, "--memory %s: %s", image->file, strerror(errno));
	if (fstat(fd, &st))
		status = sn_tool_error(tool, "--memory %s: %s", image->file, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		status = sn_tool_error(tool, "--memory %s: not a regular file", image->file);
	else if (st.st_size <= 0)
		status = sn_tool_error(tool, "--memory %s: the file is empty", image->file);
	else if ((uint64_t)st.st_size > TOP || image->base > TOP - PAGE ||
	         ((uint64_t)st.st_size + PAGE - 1) / PAGE * PAGE > TOP - image->base)
		status = sn_tool_error(tool, "--memory %s: reaches beyond 2^52", image->file);
	if (!status) {
		image->bytes = (uint64_t)st.st_size;
		image->mapped = (image->bytes + PAGE - 1) / PAGE * PAGE;
		image->mapping = mmap(NULL, image->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
		if (image->mapping == MAP_FAILED)
			status = sn_tool_error(tool, "--memory %s: mmap: %s", image->file,
			                       strerror(errno));
	}
	close(fd);
	return status;
}

int sn_images_add(const struct sn_tool *tool, struct sn_images *images, const char *text)
{
	struct sn_image *image = &images->image[images->count];
	int status;

	if (images->count == SN_IMAGES_MAX)
		return sn_tool_error(tool, "--memory %s: at most %d images", text, SN_IMAGES_MAX);
	image->text = strdup(text);
	if (!image->text)
		return sn_tool_error(tool, "out of memory");
	status = parse(tool, image);
	if (!status)
		status = map(tool, image);
	if (status)
		free(image->text);
	else
		images->count++;
	return status;
}

int sn_images_attach(const struct sn_tool *tool, const struct sn_images *images,
                     struct snest_vm *vm)
{
	for (unsigned i = 0; i < images->count; i++) {
		const struct sn_image *image = &images->image[i];
		struct snest_region region = {
			.size = sizeof(region),
			.first = image->base,
			.last = image->base + (image->mapped - 1),
			.host = image->base,
			.mapping = image->mapping,
		};
		int ret = snest_memory_add(vm, &region);

		if (ret == -EEXIST)
			return sn_tool_error(tool, "--memory %s: overlaps another image",
			                     image->file);
		if (ret)
			return sn_tool_error(tool, "--memory %s: %s", image->file, strerror(-ret));
	}
	return 0;
}

const struct sn_image *sn_images_find(const struct sn_images *images, uint64_t gpa)
{
	for (unsigned i = 0; i < images->count; i++) {
		const struct sn_image *image = &images->image[i];

		if (gpa >= image->base && gpa - image->base < image->mapped)
			return image;
	}
	return NULL;
}

void sn_images_close(struct sn_images *images)
{
	for (unsigned i = 0; i < images->count; i++) {
		munmap(images->image[i].mapping, images->image[i].bytes);
		free(images->image[i].text);
	}
	images->count = 0;
}
