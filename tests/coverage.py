#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Line coverage per folder and file, from `llvm-cov export -summary-only`.

Usage: coverage.py ROOT < export.json
"""

import json
import os
import sys


def main():
    root = sys.argv[1]
    folders = {}
    for file in json.load(sys.stdin)["data"][0]["files"]:
        name = os.path.relpath(os.path.realpath(file["filename"]), root)
        lines = file["summary"]["lines"]
        if name.startswith(("..", "/")):
            continue
        folder = os.path.dirname(name)
        folders.setdefault(folder, []).append((name, lines["count"], lines["covered"]))

    def row(name, count, covered):
        share = 100.0 * covered / count if count else 100.0
        print(f"{name:34} {count:6} {count - covered:6} {share:7.2f} %")

    print(f"{'file':34} {'lines':>6} {'missed':>6} {'reached':>9}")
    for folder, files in sorted(folders.items()):
        for name, count, covered in sorted(files):
            row(name, count, covered)
        row(folder + "/", sum(f[1] for f in files), sum(f[2] for f in files))
        print()


main()
