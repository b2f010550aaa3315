# SPDX-License-Identifier: MIT
"""The tables of docs/performance.md, written from a file of results.

    report.py RESULTS.json DOCUMENT.md

A table stands between <!-- bench:NAME --> and <!-- /bench:NAME -->; what is
between them is replaced. What was not measured is a dash.
"""
import re
import statistics
import sys

from results import Results, figure, read_goals

NONE = "–"
SIZES = ("1K", "64K", "1M", "16M")
FLAVOURS = ("bp", "memb", "qsbr")
FORMATS = ("x86-64", "vtd-ss", "amd-v1", "amd-v2", "arm-s1", "arm-s2", "riscv32", "riscv64")


def table(head, rows):
    """Markdown; the first column is words, the others figures. Empty rows and columns go."""
    rows = [row for row in rows if any(cell != NONE for cell in row[1:])]
    kept = [0] + [i for i in range(1, len(head)) if any(row[i] != NONE for row in rows)]
    lines = [[head[i] for i in kept]] + [["---"] + ["---:"] * (len(kept) - 1)]
    lines += [[row[i] for i in kept] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def time(ns):
    """A duration with its unit, three digits."""
    if ns is None:
        return NONE
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size:
            return f"{float(f'{ns / size:.3g}'):g} {unit}"
    return f"{float(f'{ns:.3g}'):g} ns"


def rate(ns):
    """How many a second."""
    if not ns:
        return NONE
    each = 1e9 / ns
    for word, size in (("million", 1e6), ("thousand", 1e3)):
        if each >= size:
            return f"{float(f'{each / size:.3g}'):g} {word}"
    return f"{each:.0f}"


class Report:
    def __init__(self, results):
        self.results = results

    def time(self, name):
        return time(self.results.median(name))

    def ratio(self, name, base):
        value, base = self.results.median(name), self.results.median(base)
        return f"{figure(float(f'{value / base:.3g}'))}×" if value and base else NONE

    def counter(self, name):
        value = self.results.median(name)
        return NONE if value is None else f"{float(f'{value:.3g}'):g}"

    def average_least(self, name):
        samples = self.results.samples(name)
        if not samples:
            return NONE
        return f"{statistics.mean(samples):.3g}, {min(samples):.3g}"

    # ---- Tables, one a method ------------------------------------------------------

    def machine(self):
        context = self.results.context
        about = context.get("machine", {})
        caches = ", ".join(f"L{cache['level']} " +
                           (f"{cache['size'] / 2**20:g} MiB" if cache["size"] >= 2**20
                            else f"{cache['size'] / 2**10:g} KiB")
                           for cache in context.get("caches", ())
                           if cache.get("type") != "Instruction")
        virtual = ", a virtual machine" if about.get("virtual_machine") else ""
        rows = (
            ("processor", f"{about.get('processor') or about.get('architecture', '?')}, "
                          f"{context.get('num_cpus', '?')} cores, "
                          f"{context.get('mhz_per_cpu', '?')} MHz{virtual}"),
            ("caches", caches),
            ("memory", f"{about.get('memory_gib', '?')} GiB, "
                       f"huge pages: {about.get('huge_pages') or '?'}"),
            ("kernel", about.get("kernel", "?")),
            ("compiler", context.get("compiler", "?")),
            ("RCU flavours", context.get("rcu", "?")),
            ("date", context.get("date", "?")[:10]),
            ("revision", about.get("revision") or "?"),
            ("run", f"{context.get('repetitions', '?')} repetitions"
                    + (", --quick" if context.get("quick") == "yes" else "")),
        )
        return "\n".join(["| | |", "| --- | --- |"] + [f"| {a} | {b} |" for a, b in rows])

    def goals(self):
        lines = ["| goal | bound | measured | |", "| --- | ---: | ---: | --- |"]
        for goal in read_goals():
            goal.measure(self.results)
            if goal.measured is None:
                if goal.bound is not None:
                    lines.append(f"| {goal.what} | {goal.bound_text} | | "
                                 f"{goal.why_not(self.results)} |")
                continue
            verdict = goal.verdict().replace("MISSED", "**missed**")
            what = f"*{goal.what}*" if goal.informs else goal.what
            bound = "" if goal.bound is None else goal.bound_text
            lines.append(f"| {what} | {bound} | {figure(float(f'{goal.measured:.3g}'))} "
                         f"| {verdict} |")
        return "\n".join(lines)

    def lookup(self):
        rows = []
        for what, name, base in (
                ("flat array", "random/{}/flat", None),
                ("flat array in a read section", "random/{}/flat in a section", "random/{}/flat"),
                ("**snest**", "random/{}/snest", "random/{}/flat"),
                ("snest, begin and end of the section called", "random/{}/snest, section called",
                 "random/{}/flat"),
                ("snest in a section that is open", "random/{}/snest, section held",
                 "random/{}/flat"),
                ("flat array, 16 in a call", "batch/{}/flat batch", "random/{}/flat"),
                ("**snest, batches of 16**", "batch/{}/batch", "random/{}/flat"),
                ("flat array, 16 pages in a row", "batch/{}/flat scatter", None),
                ("**snest, scatter of 16 pages**", "batch/{}/scatter", "batch/{}/flat scatter"),
                ("pointer chase", "dependent/{}/chase", None),
                ("flat array, dependent", "dependent/{}/flat", "dependent/{}/chase"),
                ("**snest, dependent**", "dependent/{}/snest", "dependent/{}/chase"),
                ("flat array, one after the other", "sequential/{}/flat", None),
                ("snest, one after the other", "sequential/{}/snest", "sequential/{}/flat"),
                ("flat array, 9 of 10 to 512 pages", "hot/{}/flat", None),
                ("snest, 9 of 10 to 512 pages", "hot/{}/snest", "hot/{}/flat"),
                ("hash of 1024, mutex", "random/{}/hash", "random/{}/snest"),
                ("ordered map, rwlock", "random/{}/map", "random/{}/snest"),
                ("range tree, no lock", "random/{}/tree", "random/{}/snest"),
                ("sorted list, rwlock", "random/{}/list", "random/{}/snest")):
            row = [what]
            for size in SIZES:
                row.append(self.with_ratio("lookup/" + name.format(size),
                                           base and "lookup/" + base.format(size)))
            rows.append(row)
        return table(["per lookup, pages mapped"] + list(SIZES), rows)

    def with_ratio(self, name, base):
        text = self.time(name)
        if base and text != NONE and self.results.median(base):
            text += f" ({self.ratio(name, base)})"
        return text

    def lookup_more(self):
        rows = []
        for what, group, flat, member in (
                [(f"2 MiB leaves, {n} of them", f"lookup/2M/{n}", "flat", "snest")
                 for n in ("128", "2K", "32K")] +
                [("1 GiB leaves, 64 of them", "lookup/1G/64", "flat", "snest")] +
                [("by device handle", "lookup/paths", "flat", "device"),
                 ("by device handle and PASID", "lookup/paths", "flat", "pasid")] +
                [(f"{n} device{'s' if n > 1 else ''} in turn", f"lookup/devices/{n}", "flat",
                  "snest") for n in (1, 8, 64, 512, 4096)] +
                [(f"dirty log {state}, {kind}", f"lookup/dirty log {state}", "flat", kind)
                 for state in ("off", "on") for kind in ("read", "write")] +
                [(f"flavour {flavour}", f"lookup/flavour {flavour}", "flat", "snest")
                 for flavour in FLAVOURS]):
            rows.append([what, self.time(f"{group}/{flat}"),
                         self.time(f"{group}/flat in a section"),
                         self.with_ratio(f"{group}/{member}", f"{group}/{flat}"),
                         self.with_ratio(f"{group}/snest, section held", f"{group}/{flat}"),
                         self.with_ratio(f"{group}/hash", f"{group}/{member}")])
        return table(["", "flat", "flat in a section", "snest", "section held", "hash of 1024"],
                     rows)

    def threads(self):
        counts = [n for n in (1, 2, 4, 8, 16, 32, 64)
                  if self.results.median(f"threads/readers/snest x{n}")]
        rows = []
        for what, member in (("flat array", "flat"), ("**snest**", "snest"),
                             ("hash of 1024, mutex (1K pages)", "hash"),
                             ("sorted list, rwlock (1K pages)", "list"),
                             ("ordered map, rwlock", "map")):
            row, one = [what], self.results.median(f"threads/readers/{member} x1")
            for n in counts:
                ns = self.results.median(f"threads/readers/{member} x{n}")
                row.append(f"{float(f'{1e3 / ns:.3g}'):g} ({one / ns:.2f}×)" if ns and one
                           else NONE)
            rows.append(row)
        return table(["million lookups a second"] +
                     [f"{n} thread{'s' if n > 1 else ''}" for n in counts], rows)

    def invalidator(self):
        rows = []
        for what, member, idle in (
                ("**snest**, mirrored, pages are read again", "snest unchanged", "snest idle"),
                ("**snest**, mirrored, pages change places", "snest remap", "snest idle"),
                ("**snest**, not mirrored, other pages come and go", "snest others",
                 "snest idle"),
                ("snest, not mirrored, the reader's own pages go", "snest drop", "snest idle"),
                ("hash of 1024, mutex, 1K pages", "hash hot", "hash hot idle"),
                ("hash of 1024, mutex, 64K pages", "hash", "hash idle"),
                ("the same, entries only go", "hash drop", "hash idle"),
                ("sorted list, rwlock, 1K pages", "list hot", "list hot idle"),
                ("ordered map, rwlock, 64K pages", "map", "map idle")):
            base = "threads/invalidator/"
            rows.append([what, self.time(base + idle), self.time(base + member),
                         self.ratio(base + member, base + idle),
                         time(self.results.median(base + member + "#ns_per_command"))])
        return table(["beside an invalidator", "idle", "lookup", "slower", "command"], rows)

    def sync(self):
        rows = []
        for what, group, sizes in (
                [("1 page", "1 page", SIZES), ("256 pages", "256 pages", ("1M",)),
                 ("2 MiB", "2M", ("1M",)), ("1 GiB", "1G", ("1M",)),
                 ("1 page, one a table", "1 page sparse", ("2K",))]):
            for size in sizes:
                name = f"sync/{group}/{size}"
                rows.append([f"{what}, {size} mapped"] + [
                    self.time(f"{name}/{member}") for member in (
                        "compare", "ascending", "unchanged", "unmap", "map", "walk and tree")])
        return table(["command", "two loads (limit)", "the next, unchanged",
                      "at random, unchanged", "unmap", "map", "walk, search a tree"], rows)

    def sync_whole(self):
        rows = []
        for what, name in ([(f"{size} pages", f"sync/space/{size}") for size in SIZES] +
                           [("2048 tables, a page each", "sync/space sparse/2K"),
                            ("1M pages, contiguous", "sync/space contiguous/1M")]):
            rows.append([what, self.time(f"{name}/read"), self.time(f"{name}/stream"),
                         self.time(f"{name}/memcmp"),
                         self.with_ratio(f"{name}/unchanged", f"{name}/read"),
                         self.with_ratio(f"{name}/tag", f"{name}/read"),
                         self.with_ratio(f"{name}/everything", f"{name}/read")])
        return table(["everything, mirrored, unchanged", "reading the tables",
                      "reading two streams", "memcmp", "space", "tag", "VM"], rows)

    def sync_unmirrored(self):
        rows = [[f"space, {size} pages' tables",
                 self.time(f"sync/unmirrored space/{size}/drop"), NONE] for size in SIZES]
        for what, name in (("1 page", "1 page"), ("256 pages", "256 pages"), ("2 MiB", "2M"),
                           ("1 GiB", "1G")):
            rows.append([f"{what}, 1M mapped", self.time(f"sync/drop {name}/1M/drop"),
                         self.time(f"sync/drop {name}/1M/nothing there")])
        return table(["not mirrored", "leaves go", "nothing there"], rows)

    def sync_more(self):
        rows = []
        for what, name in (("1M pages at random", "populate/1M"),
                           ("1M pages, contiguous", "populate contiguous/1M"),
                           ("2048 tables, a page each", "populate sparse/2K")):
            rows.append([f"first population, {what}", self.time(f"sync/{name}/copy"),
                         self.time(f"sync/{name}/mirror")])
        return table(["per page", "copying the tables", "snest"], rows)

    def devices(self):
        rows = []
        for n in (1, 4, 16, 32, 64, 256, 1024):
            name = f"sync/devices/{n}"
            rows.append([str(n)] + [self.time(f"{name}/{member}")
                                    for member in ("space", "tag", "device")])
        return table(["devices on the tag; 1 page of", "space", "tag", "device"], rows)

    def map(self):
        rows = []
        for name in FORMATS:
            for shape in ("4K", "256x4K", "2M", "256x2M", "1G", "256x1G", "far"):
                group = f"map/{name}/{shape}"
                what = "4K, tables far apart" if shape == "far" else shape.replace("x", " × ")
                rows.append([f"{name}, {what}"] + [
                    self.average_least(f"{group}/{member}")
                    for member in ("map", "unmap", "map and unmap", "stores")] +
                    [self.ratio(f"{group}/map and unmap", f"{group}/stores")])
        return table(["ns: average, minimum", "map", "unmap", "both", "stores only, both",
                      "both / stores"], rows)

    def cold(self):
        members = ("pool", "caller's memory", "pool, 256x4K", "pool, 2M")
        rows = [[name] + [self.time(f"map/{name}/cold/{member}") for member in members]
                for name in FORMATS]
        return table(["with three new tables", "4K, from the pool", "from the caller",
                      "256 × 4K, from the pool", "2M, from the pool"], rows)

    def walk(self):
        rows = []
        for name in FORMATS + ("x86-64 large",):
            row = [name]
            for stages in ("1 stage", "2 stages", "3 stages"):
                group = f"walk/{stages}/{name}"
                row += [self.time(f"{group}/loads"),
                        self.with_ratio(f"{group}/collapse", f"{group}/loads")]
            rows.append(row)
        return table(["", "loads", "1 stage", "loads", "2 stages", "loads", "3 stages"], rows)

    def enumerate(self):
        rows = [[f"1M pages, {what}", self.time(f"walk/enumerate/{what}/walk_range")]
                for what in ("scattered", "contiguous")]
        return table(["enumeration", "per page"], rows)

    def vtd(self):
        rows = [[what, self.time(f"vtd/page-selective/{member}"),
                 rate(self.results.median(f"vtd/page-selective/{member}"))]
                for what, member in (
                    ("the invalidation alone, no queue", "invalidate"),
                    ("raw descriptors, 256 a call", "raw"),
                    ("the queue, 255 a tail write", "queue"),
                    ("the queue, one a tail write", "queue, one at a time"))]
        return table(["page-selective, 64K mapped", "per descriptor", "a second"], rows)

    def wait(self):
        rows = [[what] + [self.time(f"vtd/wait {flavour}/{member}") for flavour in FLAVOURS]
                for what, member in (
                    ("no reader", "no reader"), ("one reader, busy", "1 reader"),
                    ("a busy reader on each core", "a reader a core"),
                    ("the write alone, no reader", "vCPU, no reader"),
                    ("the write alone, one reader", "vCPU, 1 reader"))]
        return table(["one command and one wait"] + list(FLAVOURS), rows)

    def guests(self):
        rows = []
        for name in ("vtd-legacy-cm", "vtd-scalable-fs", "vtd-legacy-lazy", "vtd-scalable-ss-cm",
                     "vtd-legacy-cm-vfio"):
            group = f"guests/{name}"
            both = [self.results.median(f"{group}/{member}") for member in
                    ("translation", "clock", "command")]
            rows.append([name, self.counter(f"{group}/translation#translations"),
                         time(both[0]), time(both[1]), rate(both[0]),
                         self.counter(f"{group}/command#commands"), time(both[2]),
                         rate(both[2])])
        return table(["", "translations", "each", "of it the clock", "a second", "commands",
                      "each", "a second"], rows)

    def memory(self):
        rows = []
        for what, name in (("dense, 4 KiB pages at random", "dense"),
                           ("sparse, a page a table", "sparse"),
                           ("contiguous, 4 KiB pages", "contiguous"),
                           ("2 MiB pages at random", "2M")):
            row = [what]
            for member in ("fill", "mirror"):
                row += [self.counter(f"memory/{name}/{member}#bytes_per_page"),
                        self.time(f"memory/{name}/{member}")]
            rows.append(row)
        return table(["", "filled by misses, bytes a page", "a leaf", "mirrored, bytes a page",
                      "a leaf"], rows)

    def bombs(self):
        rows = [[what, self.time(f"memory/bomb/{member}"),
                 self.counter(f"memory/bomb/{member}#of_budget")]
                for what, member in (("a lookup somewhere in it", "lookups"),
                                     ("mirroring it, which fails", "mirror"))]
        return table(["a table whose entries all point to itself", "time",
                      "shadow / budget of 64 MiB"], rows)


def main(results_path, document):
    report = Report(Results([results_path]))
    with open(document, encoding="utf-8") as file:
        text = file.read()
    for name in re.findall(r"<!-- bench:(\w+) -->", text):
        begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
        if end not in text or not hasattr(report, name):
            sys.exit(f"{document}: {begin}: " +
                     ("never ends" if end not in text else "there is no such table"))
        at, stop = text.index(begin) + len(begin), text.index(end)
        text = text[:at] + "\n\n" + getattr(report, name)() + "\n\n" + text[stop:]
    with open(document, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
