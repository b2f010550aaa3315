/* SPDX-License-Identifier: MIT */
/*
 * Compiles everything for the format named by FMT: walker, enumeration,
 * writer, entry points. Included by walkers/fmt_<name>.c behind the format's
 * header; see walkers/pt.h for what that has to define.
 */
#include <errno.h>
#include <limits.h>
#include "walkers/env.h"
#include "walkers/range.h"
#include "walkers/write.h"

#include "walkers/walk_impl.h"

#include "walkers/range_impl.h"

#include "walkers/write_impl.h"

#include "walkers/format_impl.h"
