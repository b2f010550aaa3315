# SPDX-License-Identifier: MIT
"""Pictures of a run of the benchmarks, for docs/performance.md.

    plots.py RESULTS.json FOLDER

Each is written as SVG and as PNG. Needs matplotlib.
"""
import os
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter

from results import Results

SIZES = {"1K": 1 << 10, "64K": 1 << 16, "1M": 1 << 20, "16M": 1 << 24}
SNEST, LIMIT, PEERS = "#0b6e4f", "#555555", ["#c1440e", "#d98e04", "#7b3f8c", "#b0306a"]

# The kernel's generic page tables, as its authors published them (VT-d and AMD v1 on an
# i7-12700, map / unmap in ns), 4 KiB and 256 x 4 KiB.
PUBLISHED = {
    "x86-64": ((56, 71), (405, 228)),
    "vtd-ss": ((55, 69), (391, 210)),
    "amd-v1": ((53, 69), (386, 353)),
    "arm-s1": ((57, 72), (380, 521)),
}

plt.rcParams.update({
    "font.family": "DejaVu Sans", "font.size": 10, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#dddddd",
    "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False,
    "svg.hashsalt": "snest",
})


def pages(value, _position=None):
    for unit, size in (("M", 1 << 20), ("K", 1 << 10)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def time(value, _position=None):
    for unit, size in (("ms", 1e6), ("µs", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g} ns"


def by_size(results, pattern, factor=1):
    points = []
    for name, size in SIZES.items():
        value = results.median(pattern.format(name))
        if value is not None:
            points.append((size * factor, value))
    return points


def line(axes, points, label, color, style="-", marker="o", width=1.6, where=None):
    if not points:
        return
    axes.plot(*zip(*points), style, marker=marker, color=color, label=label, linewidth=width,
              markersize=4.5)
    x, y = points[-1]
    axes.annotate(label, (x, y), xytext=where or (7, 0), textcoords="offset points",
                  va="center", fontsize=8.5, color=color)


def log_axes(title, xlabel, ylabel, size=(7.6, 4.6), right=1.6):
    figure, axes = plt.subplots(figsize=size)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.yaxis.set_major_formatter(FuncFormatter(time))
    axes.xaxis.set_major_formatter(FuncFormatter(pages))
    return figure, axes


def lookup(results):
    figure, axes = log_axes("One lookup, pages at random", "pages mapped (4 KiB)", "per lookup")
    peers = (("list", "sorted list, rwlock"), ("map", "ordered map, rwlock"),
             ("tree", "range tree, no lock"), ("hash", "hash of 1024, mutex"))
    for (member, label), color in zip(peers, PEERS):
        line(axes, by_size(results, "lookup/random/{}/" + member), label, color, "--", "s", 1.2)
    line(axes, by_size(results, "lookup/dependent/{}/snest"), "snest, dependent", SNEST, ":",
         where=(7, 9))
    line(axes, by_size(results, "lookup/dependent/{}/chase"), "pointer chase (limit)", LIMIT, ":",
         "", where=(7, -7))
    line(axes, by_size(results, "lookup/random/{}/snest"), "snest", SNEST, width=2.4,
         where=(7, 4))
    line(axes, by_size(results, "lookup/batch/{}/batch"), "snest, batches of 16", SNEST, "-.", "^",
         1.2, where=(7, -6))
    large = [(leaves * 512, results.median(f"lookup/2M/{name}/snest"))
             for name, leaves in (("128", 128), ("2K", 2048), ("32K", 32768))]
    line(axes, [point for point in large if point[1] is not None], "snest, 2 MiB leaves", "#3aa17e",
         "-", "D", 1.2)
    line(axes, by_size(results, "lookup/random/{}/flat"), "flat array (limit)", LIMIT, "-", "",
         where=(7, -16))
    axes.set_xticks([1 << 10, 1 << 13, 1 << 16, 1 << 20, 1 << 24])
    axes.set_xlim(700, 1 << 28)
    return figure


def threads(results):
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64)
              if results.median(f"threads/readers/snest x{n}") is not None]
    figure, axes = plt.subplots(figsize=(7.6, 4.2))
    # Time of one lookup by one thread: where threads wait for each other it is the wall's
    # inverse throughput, where they never do the processor's.
    series = (("flat", "flat array (limit)", LIMIT, 1), ("snest", "snest", SNEST, 1),
              ("hash", "hash of 1024, mutex", PEERS[3], 0),
              ("map", "ordered map, rwlock", PEERS[1], 0))
    width = 0.8 / len(series)
    for i, (member, label, color, apart) in enumerate(series):
        values = []
        for n in counts:
            median = results.median(f"threads/readers/{member} x{n}")
            values.append(1000 / median * (n if apart else 1))
        places = [k + (i - (len(series) - 1) / 2) * width for k in range(len(counts))]
        bars = axes.bar(places, values, width * 0.92, color=color, label=label)
        axes.bar_label(bars, [f"{value:.3g}" for value in values], fontsize=8, padding=2)
    axes.set_yscale("log")
    axes.set_xticks(range(len(counts)), [f"{n} thread{'s' if n > 1 else ''}" for n in counts])
    axes.set_ylabel("million lookups a second")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_title("Readers of one space, 64K pages at random (the hash: 1K)", loc="left",
                   fontsize=11)
    axes.legend(ncols=4, fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    axes.grid(axis="x", visible=False)
    return figure


def sync(results):
    figure, axes = log_axes("One invalidation of a mirrored space, nothing changed",
                            "pages mapped (4 KiB)", "per command")
    line(axes, by_size(results, "sync/space/{}/unchanged"), "everything", SNEST, width=2.4,
         where=(7, 6))
    line(axes, by_size(results, "sync/space/{}/read"), "reading the tables (limit)", LIMIT, "-",
         "", where=(7, -7))
    line(axes, by_size(results, "sync/1 page/{}/walk and tree"), "1 page: walk, search a range tree",
         PEERS[2], "--", "s", 1.2)
    line(axes, by_size(results, "sync/unmirrored space/{}/drop"), "everything, not mirrored",
         "#3aa17e", "-", "D", 1.2, where=(7, 10))
    line(axes, by_size(results, "sync/1 page/{}/change"), "1 page, changed", SNEST, "-.", "^", 1.2,
         where=(7, 5))
    line(axes, by_size(results, "sync/1 page/{}/unchanged"), "1 page at random", SNEST, ":",
         where=(7, -5))
    line(axes, by_size(results, "sync/1 page/{}/ascending"), "1 page, the next", SNEST, "-", "o",
         1.2)
    line(axes, by_size(results, "sync/1 page/{}/compare"), "two loads (limit)", LIMIT, "-", "",
         where=(7, 0))
    axes.set_xticks([1 << 10, 1 << 13, 1 << 16, 1 << 20, 1 << 24])
    axes.set_xlim(700, 1 << 30)
    return figure


def tables(results):
    formats = [name for name in ("x86-64", "vtd-ss", "amd-v1", "amd-v2", "arm-s1", "arm-s2",
                                 "riscv32", "riscv64")
               if results.median(f"map/{name}/4K/map and unmap") is not None]
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 4.2))
    for panel, (axes, shape, title) in enumerate(zip(panels, ("4K", "256x4K"),
                                                     ("one 4 KiB page", "256 pages in one call"))):
        ours = [results.median(f"map/{name}/{shape}/map and unmap") for name in formats]
        limit = [results.median(f"map/{name}/{shape}/stores") for name in formats]
        known = [sum(PUBLISHED[name][panel]) if name in PUBLISHED else 0 for name in formats]
        places = range(len(formats))
        for offset, values, color, label in ((-0.27, limit, LIMIT, "stores only (limit)"),
                                             (0, ours, SNEST, "snest"),
                                             (0.27, known, PEERS[0],
                                              "kernel's generic page table, published (i7-12700)")):
            bars = axes.bar([place + offset for place in places], values, 0.25, color=color,
                            label=label)
            axes.bar_label(bars, [f"{value:.3g}" if value else "" for value in values],
                           fontsize=6.5, padding=1)
        axes.set_xticks(places, formats, rotation=35, ha="right", fontsize=8.5)
        axes.set_title(f"Map and unmap again: {title}, ns", loc="left", fontsize=10)
        axes.grid(axis="x", visible=False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=3, fontsize=8.5, loc="lower center")
    figure.subplots_adjust(bottom=0.25, left=0.06, right=0.98, wspace=0.16)
    return figure


def main(path, folder):
    results = Results([path])
    os.makedirs(folder, exist_ok=True)
    for name, draw in (("lookup", lookup), ("threads", threads), ("sync", sync), ("map", tables)):
        figure = draw(results)
        for kind in ("svg", "png"):
            figure.savefig(os.path.join(folder, f"bench-{name}.{kind}"), dpi=120,
                           bbox_inches="tight", metadata={"Date": None} if kind == "svg" else None)
        plt.close(figure)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
