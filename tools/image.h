/* SPDX-License-Identifier: MIT */
/*
 * Memory images: files that stand for guest memory, mapped and given to a VM
 * as regions. They are mapped without the right to write, so the VM may only be
 * used for calls that change nothing; its regions are writable nevertheless, so
 * that the rights of a walk are those of the tables alone. Holes of sparse files
 * are zero. Host addresses equal GPAs, because an image has no host.
 */
#ifndef SN_TOOLS_IMAGE_H
#define SN_TOOLS_IMAGE_H

#include <snest/vm.h>
#include "tools/tool.h"

#define SN_IMAGES_MAX 64

struct sn_image {
	const char *file; /* points into the argument's copy */
	char *text;       /* copy of the argument */
	uint64_t base;    /* GPA of the first byte */
	uint64_t bytes;   /* length of the file */
	uint64_t mapped;  /* the same, rounded up to whole pages */
	void *mapping;
};

struct sn_images {
	struct sn_image image[SN_IMAGES_MAX];
	unsigned count;
};

/*
 * Maps "FILE" (at GPA 0) or "FILE@GPA". The last '@' counts. 0, or an exit
 * status with a message printed.
 */
int sn_images_add(const struct sn_tool *tool, struct sn_images *images, const char *text);

/* Gives all images to the VM. 0, or an exit status with a message printed. */
int sn_images_attach(const struct sn_tool *tool, const struct sn_images *images,
                     struct snest_vm *vm);

/* The image that holds `gpa`, NULL if none. */
const struct sn_image *sn_images_find(const struct sn_images *images, uint64_t gpa);

/* Unmaps all. The VM must be gone. */
void sn_images_close(struct sn_images *images);

#endif
