# SPDX-License-Identifier: MIT
"""Results of the benchmarks: reading them, goals, comparison, merging.

    results.py goals FILE...        the table of bench/goals.txt
    results.py compare OLD,... NEW,...  two revisions side by side
    results.py merge OUT FILE...    several files of results as one

Files are in Google Benchmark's JSON format with all repetitions. A member's
label says which of its two times counts. Only the standard library is used.
"""
import json
import os
import random
import re
import statistics
import sys

RESAMPLES = 1000


class Results:
    """Repetitions of each benchmark, in nanoseconds, and counters."""

    def __init__(self, paths):
        self.times, self.counters, self.context = {}, {}, {}
        for path in paths:
            with open(path, encoding="utf-8") as file:
                data = json.load(file)
            self.context.update(data["context"])
            for run in data["benchmarks"]:
                self._add(run)

    def _add(self, run):
        if run.get("error_occurred") or run.get("run_type") != "iteration":
            return
        name = run["run_name"]
        self.times.setdefault(name, []).append(run[run["label"]])
        for key, value in run.items():
            if isinstance(value, float) and key not in ("real_time", "cpu_time"):
                self.counters.setdefault(f"{name}#{key}", []).append(value)

    def samples(self, name):
        return self.counters.get(name) if "#" in name else self.times.get(name)

    def median(self, name):
        samples = self.samples(name)
        return statistics.median(samples) if samples else None


def interval(evaluate, names, results):
    """The middle 95 % of an expression when the repetitions are drawn anew."""
    generator, values = random.Random(1), []
    for _ in range(RESAMPLES // 5):
        drawn = {name: statistics.median(generator.choices(results.samples(name),
                                                           k=len(results.samples(name))))
                 for name in names}
        values.append(evaluate(drawn))
    values.sort()
    return values[len(values) // 40], values[-1 - len(values) // 40]


def read_goals(path):
    """(what, names, function of their values, bound) of each line."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            if not line.strip() or line.startswith("#"):
                continue
            what, expression, bound = (part.strip() for part in line.split(" | "))
            names = re.findall(r'"([^"]+)"', expression)
            code = compile(re.sub(r'"([^"]+)"', r'value["\1"]', expression), what, "eval")
            scope = {"__builtins__": {}, "max": max, "min": min}
            yield what, names, lambda value, code=code, scope=scope: eval(
                code, scope, {"value": value}), bound


def goals(paths):
    results, missed = Results(paths), 0
    here = os.path.dirname(os.path.abspath(__file__))
    print(f"{'goal':62} {'bound':>9} {'measured':>9}  {'95 %':<21}")
    for what, names, evaluate, bound in read_goals(os.path.join(here, "goals.txt")):
        values = {name: results.median(name) for name in names}
        if None in values.values():
            print(f"{what:62} {bound:>9} {'-':>9}  not measured")
            continue
        measured = evaluate(values)
        low, high = interval(evaluate, names, results)
        relation, limit = bound.split()
        reached = measured <= float(limit) if relation == "<=" else measured >= float(limit)
        missed += not reached
        spread = f"{low:.4g} .. {high:.4g}"
        print(f"{what:62} {bound:>9} {measured:9.4g}  {spread:<21} "
              f"{'reached' if reached else 'MISSED'}")
    print(f"{missed} missed")


def compare(old_paths, new_paths):
    old, new = Results(old_paths.split(",")), Results(new_paths.split(","))
    generator = random.Random(1)
    print(f"{'benchmark':52} {'old ns':>11} {'new ns':>11} {'new/old':>8}  95 %")
    for name, before in old.times.items():
        after = new.times.get(name)
        if not after:
            print(f"{name:52} {statistics.median(before):11.2f} {'gone':>11}")
            continue
        ratios = sorted(
            statistics.median(generator.choices(after, k=len(after))) /
            statistics.median(generator.choices(before, k=len(before)))
            for _ in range(RESAMPLES))
        low, high = ratios[RESAMPLES // 40], ratios[-RESAMPLES // 40]
        verdict = "faster" if high < 0.98 else "slower" if low > 1.02 else ""
        ratio = statistics.median(after) / statistics.median(before)
        print(f"{name:52} {statistics.median(before):11.2f} {statistics.median(after):11.2f} "
              f"{ratio:8.3f}  {low:.3f} .. {high:.3f}  {verdict}")
    for name in new.times:
        if name not in old.times:
            print(f"{name:52} {'new':>11} {new.median(name):11.2f}")


def merge(out, paths):
    merged = None
    for path in paths:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        if merged is None:
            merged = data
        else:
            merged["benchmarks"] += data["benchmarks"]
    with open(out, "w", encoding="utf-8") as file:
        json.dump(merged, file, indent=1)


def main(args):
    if len(args) >= 2 and args[0] == "goals":
        goals(args[1:])
    elif len(args) == 3 and args[0] == "compare":
        compare(args[1], args[2])
    elif len(args) >= 3 and args[0] == "merge":
        merge(args[1], args[2:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
