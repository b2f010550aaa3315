#!/bin/bash -eu
# SPDX-License-Identifier: MIT
exec "$SRC/snest/fuzz/oss-fuzz/build.sh"
