# SPDX-License-Identifier: MIT
"""Pictures of a run of the benchmarks, for docs/performance.md.

    plots.py RESULTS.json FOLDER

Each is written as SVG and as PNG. Needs matplotlib. Colours are Okabe and Ito's,
which people with any colour vision can tell apart; no two lines differ by colour
alone.
"""
import os
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from results import Results

SIZES = {"1K": 1 << 10, "64K": 1 << 16, "1M": 1 << 20, "16M": 1 << 24}
SNEST, SNEST_TOO, LIMIT = "#0072B2", "#56B4E9", "#4d4d4d"
HASH, MAP, TREE, LIST = "#D55E00", "#E69F00", "#CC79A7", "#009E73"

# The kernel's generic page tables as their authors published them: map, unmap in ns, of 4 KiB
# and of 256 x 4 KiB. VT-d on an i7-12700.
PUBLISHED = {
    "x86-64": ((56, 71), (405, 228)),
    "vtd-ss": ((55, 69), (391, 210)),
    "amd-v1": ((53, 69), (386, 353)),
    "arm-s1": ((57, 72), (380, 521)),
}
FORMATS = ("x86-64", "vtd-ss", "amd-v1", "amd-v2", "arm-s1", "arm-s2", "riscv32", "riscv64")

plt.rcParams.update({
    "font.family": "DejaVu Sans", "font.size": 10, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7, "axes.axisbelow": True, "axes.edgecolor": "#888888",
    "legend.frameon": False, "svg.hashsalt": "snest", "svg.fonttype": "path",
    "xtick.color": "#333333", "ytick.color": "#333333", "figure.facecolor": "white",
})


def pages(value, _position=None):
    for unit, size in (("M", 1 << 20), ("K", 1 << 10)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def mapped(value, _position=None):
    """Pages of 4 KiB, and below how much memory that is."""
    size = value * 4 / 1024
    return f"{pages(value)}\n{f'{size / 1024:g} GiB' if size >= 1024 else f'{size:g} MiB'}"


def time(value, _position=None):
    for unit, size in (("ms", 1e6), ("µs", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g} ns"


def by_size(results, pattern):
    points = [(size, results.median(pattern.format(name))) for name, size in SIZES.items()]
    return [point for point in points if point[1] is not None]


class Lines:
    """Curves over the number of pages mapped, both axes logarithmic, each named at its end."""

    LEFT, RIGHT = 1 << 10, 1 << 24

    def __init__(self, title, note, ylabel, size=(8.6, 5.6)):
        self.figure, self.axes = plt.subplots(figsize=size)
        axes, self.ends = self.axes, []
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_title(title, loc="left", fontsize=12, fontweight="bold", pad=24)
        axes.text(0, 1.025, note, transform=axes.transAxes, fontsize=9, color="#555555")
        axes.set_xlabel("pages of 4 KiB that are mapped, and how much memory that is")
        axes.set_ylabel(ylabel)
        axes.yaxis.set_major_formatter(FuncFormatter(time))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(FixedLocator([1 << n for n in range(10, 25, 2)]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(mapped))
        axes.tick_params(axis="x", labelsize=8.5)
        axes.set_xlim(self.LEFT / 1.25, self.RIGHT * 1.15)

    def add(self, points, label, color, style="-", marker="o", width=1.6):
        if not points:
            return
        self.axes.plot(*zip(*points), style, marker=marker, color=color, linewidth=width,
                       markersize=5, clip_on=False, zorder=3)
        self.ends.append([points[-1][1], points[-1][0], label, color])

    def finish(self):
        """Each curve's name behind its last point; those that end together are moved apart."""
        low, high = self.axes.get_ylim()
        self.axes.set_ylim(low, high)
        self.figure.canvas.draw()
        for end in sorted({x for _, x, *_ in self.ends}):
            self._name(sorted(each for each in self.ends if each[1] == end))
        return self.figure

    def _name(self, ends):
        to_pixels, apart = self.axes.transData, 13.5 * self.figure.dpi / 72
        places = [to_pixels.transform((x, y))[1] for y, x, *_ in ends]
        for _ in range(200):
            for i in range(len(places) - 1):
                overlap = apart - (places[i + 1] - places[i])
                if overlap > 0:
                    places[i] -= overlap / 2
                    places[i + 1] += overlap / 2
        for (y, x, label, color), place in zip(ends, places):
            begin = to_pixels.transform((x, y))
            text_x, text_y = to_pixels.inverted().transform((begin[0] + 16, place))
            self.axes.annotate(label, (x, y), xytext=(text_x, text_y), textcoords="data",
                               va="center", fontsize=9, color=color, annotation_clip=False,
                               zorder=4,
                               arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.6,
                                           "shrinkA": 1, "shrinkB": 4, "alpha": 0.6})


def lookup(results):
    lines = Lines("Time of one lookup against footprint",
                  "One thread, random pages unless said otherwise; snest with its read section "
                  "and a check of rights", "time per lookup")
    name = "lookup/random/{}/"
    lines.add(by_size(results, name + "list"), "sorted list, rwlock", LIST, "--", "s", 1.3)
    lines.add(by_size(results, name + "map"), "ordered map, rwlock", MAP, "--", "D", 1.3)
    lines.add(by_size(results, name + "tree"), "range tree, no lock", TREE, "--", "^", 1.3)
    lines.add(by_size(results, name + "hash"), "hash of 1024, mutex", HASH, "--", "v", 1.3)
    lines.add(by_size(results, "lookup/dependent/{}/snest"), "snest, dependent", SNEST_TOO, "-.",
              "o")
    lines.add(by_size(results, "lookup/dependent/{}/chase"), "pointer chase (limit)", LIMIT, ":",
              "x", 1.3)
    lines.add(by_size(results, name + "snest"), "snest", SNEST, "-", "o", 2.6)
    lines.add(by_size(results, "lookup/batch/{}/batch"), "snest, batches of 16", SNEST, "--", "P",
              1.3)
    large = [(leaves * 512, results.median(f"lookup/2M/{n}/snest"))
             for n, leaves in (("128", 128), ("2K", 2048), ("32K", 32768))]
    lines.add([point for point in large if point[1] is not None], "snest, 2 MiB leaves", SNEST,
              ":", "d", 1.3)
    lines.add(by_size(results, name + "flat"), "flat array (limit)", LIMIT, "-", "x", 1.8)
    return lines.finish()


def threads(results):
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64)
              if results.median(f"threads/readers/snest x{n}") is not None]
    series = (("flat", "flat array (limit)", LIMIT, "//"), ("snest", "snest", SNEST, ""),
              ("hash", "hash of 1024, mutex (1K pages)", HASH, "\\\\"),
              ("map", "ordered map, rwlock", MAP, ".."),
              ("list", "sorted list, rwlock (1K pages)", LIST, "xx"))
    figure, axes = plt.subplots(figsize=(8.6, 4.8))
    width = 0.86 / len(series)
    for i, (member, label, color, hatch) in enumerate(series):
        medians = [results.median(f"threads/readers/{member} x{n}") for n in counts]
        values = [1000 / median if median else 0 for median in medians]
        places = [k + (i - (len(series) - 1) / 2) * width for k in range(len(counts))]
        bars = axes.bar(places, values, width * 0.92, color=color, label=label, hatch=hatch,
                        edgecolor="white", linewidth=0)
        axes.bar_label(bars, [f"{value:.0f}" if value >= 100 else f"{value:.3g}" for value in values],
                       fontsize=8, padding=2)
    axes.set_yscale("log")
    axes.set_xticks(range(len(counts)), [f"{n} thread{'s' if n > 1 else ''}" for n in counts])
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("million lookups a second, all threads together")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * 1.5)
    axes.set_title("Readers of one space", loc="left", fontsize=12, fontweight="bold", pad=24)
    axes.text(0, 1.025, f"64K pages at random unless said otherwise; a machine with "
              f"{results.context.get('num_cpus', '?')} cores", transform=axes.transAxes,
              fontsize=9, color="#555555")
    axes.legend(ncols=3, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.09))
    axes.grid(axis="x", visible=False)
    return figure


def sync(results):
    lines = Lines("Time of one invalidation against pages mapped",
                  "The guest's table is compared with the shadow; nothing has changed unless said "
                  "otherwise", "time per command")
    lines.add(by_size(results, "sync/space/{}/unchanged"), "whole space, mirrored", SNEST, "-",
              "o", 2.6)
    lines.add(by_size(results, "sync/space/{}/read"), "reading the tables (limit)", LIMIT, "-",
              "x", 1.3)
    lines.add(by_size(results, "sync/1 page/{}/walk and tree"),
              "1 page: walk, search a range tree", TREE, "--", "^", 1.3)
    lines.add(by_size(results, "sync/unmirrored space/{}/drop"), "whole space, not mirrored",
              SNEST_TOO, "-", "D", 1.8)
    lines.add(by_size(results, "sync/1 page/{}/unmap"), "1 page, unmapped", HASH, "-.", "v", 1.3)
    lines.add(by_size(results, "sync/1 page/{}/unchanged"), "1 page, at random", SNEST, "--", "P",
              1.3)
    lines.add(by_size(results, "sync/1 page/{}/compare"), "two loads, random (limit)", LIMIT,
              ":", "x", 1.3)
    lines.add(by_size(results, "sync/1 page/{}/ascending"), "1 page, next to the last", SNEST,
              ":", "d", 1.8)
    return lines.finish()


def tables(results):
    names = [name for name in FORMATS
             if results.median(f"map/{name}/4K/map and unmap") is not None]
    figure, panels = plt.subplots(1, 2, figsize=(11.6, 4.9))
    for panel, (axes, shape, title) in enumerate(zip(panels, ("4K", "256x4K"),
                                                     ("one page of 4 KiB",
                                                      "256 pages of 4 KiB in one call"))):
        ours = [results.median(f"map/{name}/{shape}/map and unmap") for name in names]
        limit = [results.median(f"map/{name}/{shape}/stores") for name in names]
        known = [sum(PUBLISHED[name][panel]) if name in PUBLISHED else 0 for name in names]
        for offset, values, color, hatch, label in (
                (-0.28, limit, LIMIT, "//", "stores only (limit)"),
                (0, ours, SNEST, "", "snest"),
                (0.28, known, HASH, "\\\\",
                 "kernel's generic page table, as published (other machines)")):
            bars = axes.bar([place + offset for place in range(len(names))],
                            [value or 0 for value in values], 0.26, color=color, label=label,
                            hatch=hatch, edgecolor="white", linewidth=0)
            axes.bar_label(bars, [f"{value:.0f}" if value and value >= 10 else
                                  f"{value:.1f}" if value else "" for value in values],
                           fontsize=7, padding=1.5)
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=9)
        axes.tick_params(axis="x", length=0)
        axes.set_title(title, loc="left", fontsize=10, color="#333333")
        axes.set_ylabel("ns, map and unmap together")
        axes.grid(axis="x", visible=False)
    figure.suptitle("Mapping and unmapping again, by format", x=0.055, y=0.995, ha="left",
                    fontsize=12, fontweight="bold")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=3, fontsize=9, loc="lower center")
    figure.subplots_adjust(bottom=0.2, left=0.055, right=0.99, top=0.87, wspace=0.16)
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
