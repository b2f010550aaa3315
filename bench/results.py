# SPDX-License-Identifier: MIT
"""Results of the benchmarks: reading them, goals, comparison, merging.

    results.py goals FILE...            the table of bench/goals.txt; exit status 1: a goal is missed
    results.py compare OLD,... NEW,...  two revisions side by side
    results.py merge OUT FILE...        several files of results as one; notes the machine
    results.py names LIST FILE...       are all names in bench/goals.txt and in the files among
                                        those that snest-bench --list printed?

Files are in Google Benchmark's JSON format with all repetitions. A member's
label says which of its two times counts. Only the standard library is used.
"""
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys

RESAMPLES = 1000
HERE = os.path.dirname(os.path.abspath(__file__))
GOALS = os.path.join(HERE, "goals.txt")


class Results:
    """Repetitions of each benchmark, in nanoseconds, and counters."""

    def __init__(self, paths):
        self.times, self.counters, self.context = {}, {}, {}
        self.runs = {}  # of each name, the repetitions of each file
        for path in paths:
            try:
                with open(path, encoding="utf-8") as file:
                    data = json.load(file)
                self.context.update(data["context"])
                benchmarks = data["benchmarks"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                print(f"{path}: not a file of results: {error}", file=sys.stderr)
                sys.exit(2)
            for run in benchmarks:
                self._add(run, path)

    def _add(self, run, path):
        if run.get("error_occurred") or run.get("run_type") != "iteration":
            return
        name, value = run["run_name"], run[run.get("label") or "cpu_time"]
        self.times.setdefault(name, []).append(value)
        self.runs.setdefault(name, {}).setdefault(path, []).append(value)
        for key, value in run.items():
            if isinstance(value, float) and key not in ("real_time", "cpu_time"):
                self.counters.setdefault(f"{name}#{key}", []).append(value)

    def samples(self, name):
        return self.counters.get(name) if "#" in name else self.times.get(name)

    def median(self, name):
        samples = self.samples(name)
        return statistics.median(samples) if samples else None


def figure(value):
    """Four digits that count, and no exponent."""
    return f"{value:.4g}" if abs(value) < 10000 else f"{value:.0f}"


# ---- Goals -------------------------------------------------------------------


class Goal:
    """One line of goals.txt. `bound` is None where the line only informs."""

    def __init__(self, line):
        self.what, expression, self.bound_text = (part.strip() for part in line.split(" | "))
        self.informs = line.startswith(" ")
        self.names = re.findall(r'"([^"]+)"', expression)
        self.relation, self.bound = None, None
        if self.bound_text != "-":
            self.relation, bound = self.bound_text.split()
            self.bound = float(bound)
            if self.relation not in ("<=", ">="):
                raise ValueError(self.bound_text)
        self._code = compile(re.sub(r'"([^"]+)"', r'value["\1"]', expression.strip()), self.what,
                             "eval")
        self.measured = self.low = self.high = None

    def evaluate(self, value):
        return eval(self._code, {"__builtins__": {}, "max": max, "min": min}, {"value": value})

    def measure(self, results):
        """From medians; the interval is the middle 95 % when the repetitions are drawn anew."""
        values = {name: results.median(name) for name in self.names}
        if None in values.values():
            return
        self.measured = self.evaluate(values)
        generator, drawn = random.Random(1), []
        for _ in range(RESAMPLES // 5):
            drawn.append(self.evaluate({
                name: statistics.median(generator.choices(results.samples(name),
                                                          k=len(results.samples(name))))
                for name in self.names}))
        drawn.sort()
        self.low, self.high = drawn[len(drawn) // 40], drawn[-1 - len(drawn) // 40]

    def verdict(self):
        if self.measured is None:
            return "not measured"
        if self.bound is None:
            return ""
        reached = (self.measured <= self.bound if self.relation == "<="
                   else self.measured >= self.bound)
        return "reached" if reached else "MISSED"

    def why_not(self, results):
        """Of a goal that was not measured."""
        needed = max((int(n) for name in self.names for n in re.findall(r" x(\d+)$", name)),
                     default=0)
        cores = results.context.get("num_cpus", 0)
        if needed > cores > 0:
            return f"not measured: this machine has {cores} cores"
        return "not measured"


def read_goals(path=GOALS):
    goals = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip() or line.startswith("#"):
                continue
            try:
                goals.append(Goal(line.rstrip("\n")))
            except (ValueError, SyntaxError) as error:
                sys.exit(f"{path}:{number}: not what | expression | bound: {error}")
    return goals


def goals(paths):
    results = Results(paths)
    lines, counts = read_goals(), {"reached": 0, "MISSED": 0, "not measured": 0}
    width = max(len(goal.what) + 2 * goal.informs for goal in lines)
    print(f"{'goal':{width}} {'bound':>9} {'measured':>9}  95 %")
    for goal in lines:
        goal.measure(results)
        verdict, what = goal.verdict(), "  " * goal.informs + goal.what
        if verdict in counts and goal.bound is not None:
            counts[verdict] += 1
        if goal.measured is None:
            print(f"{what:{width}} {goal.bound_text:>9} {'':>9}  {goal.why_not(results)}")
            continue
        spread = f"{figure(goal.low)} .. {figure(goal.high)}"
        print(f"{what:{width}} {goal.bound_text:>9} {figure(goal.measured):>9}  {spread:<18}  "
              f"{verdict}".rstrip())
    print(f"{counts['reached']} reached, {counts['MISSED']} missed, "
          f"{counts['not measured']} not measured")
    return counts["MISSED"] != 0


def names(listed, paths):
    """Goals whose names nothing has any more would be "not measured" for ever."""
    with open(listed, encoding="utf-8") as file:
        known = set(file.read().splitlines())
    # Numbers of threads depend on the machine.
    lost = {name.split("#")[0] for goal in read_goals() for name in goal.names
            if not re.search(r" x\d+$", name)} - known
    for name in sorted(lost):
        print(f"goals.txt: there is no {name}")
    strange = set(Results(paths).times) - known
    for name in sorted(strange):
        print(f"results: nobody listed {name}")
    return bool(lost or strange)


# ---- Two revisions --------------------------------------------------------------


def redrawn(runs, generator):
    """A median of repetitions drawn anew, from runs drawn anew: one of the program is lucky or not
    in where its memory lies, so its repetitions are no independent witnesses."""
    samples = []
    for run in generator.choices(list(runs.values()), k=len(runs)):
        samples += generator.choices(run, k=len(run))
    return statistics.median(samples)


def compare(old_paths, new_paths):
    old, new = Results(old_paths.split(",")), Results(new_paths.split(","))
    generator = random.Random(1)
    width = max((len(name) for name in old.times), default=9)
    print(f"{'benchmark':{width}} {'old ns':>11} {'new ns':>11} {'new/old':>8}  95 %")
    for name, before in old.times.items():
        after = new.times.get(name)
        if not after:
            print(f"{name:{width}} {statistics.median(before):11.2f} {'gone':>11}")
            continue
        ratios = sorted(redrawn(new.runs[name], generator) / redrawn(old.runs[name], generator)
                        for _ in range(RESAMPLES))
        low, high = ratios[RESAMPLES // 40], ratios[-RESAMPLES // 40]
        verdict = "faster" if high < 0.98 else "slower" if low > 1.02 else ""
        ratio = statistics.median(after) / statistics.median(before)
        print(f"{name:{width}} {statistics.median(before):11.2f} {statistics.median(after):11.2f} "
              f"{ratio:8.3f}  {low:.3f} .. {high:.3f}  {verdict}".rstrip())
    for name in new.times:
        if name not in old.times:
            print(f"{name:{width}} {'new':>11} {new.median(name):11.2f}")
    return False


# ---- Merging ----------------------------------------------------------------------


def first_match(path, pattern):
    try:
        with open(path, encoding="utf-8") as file:
            match = re.search(pattern, file.read(), re.MULTILINE)
    except OSError:
        return ""
    return match.group(1).strip() if match else ""


def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine():
    """What the figures were taken on; no names of hosts or people."""
    memory = first_match("/proc/meminfo", r"^MemTotal:\s*(\d+) kB")
    return {
        "processor": first_match("/proc/cpuinfo", r"^model name\s*:\s*(.*)"),
        "architecture": platform.machine(),
        "virtual_machine": " hypervisor" in first_match("/proc/cpuinfo", r"^(flags.*)"),
        "memory_gib": round(int(memory) / 2**20, 1) if memory else 0,
        "huge_pages": first_match("/sys/kernel/mm/transparent_hugepage/enabled", r"\[(\w+)\]"),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "revision": output("git", "-C", HERE, "describe", "--always", "--dirty"),
    }


def merge(out, paths):
    merged, flavours = None, []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        flavours.append(data["context"].get("rcu", ""))
        if merged is None:
            merged = data
        else:
            merged["benchmarks"] += data["benchmarks"]
    merged["context"].pop("host_name", None)
    merged["context"]["rcu"] = " ".join(flavours)
    merged["context"]["machine"] = machine()
    with open(out, "w", encoding="utf-8") as file:
        json.dump(merged, file, indent=1)
        file.write("\n")
    return False


def main(args):
    if len(args) >= 2 and args[0] == "goals":
        return goals(args[1:])
    if len(args) == 3 and args[0] == "compare":
        return compare(args[1], args[2])
    if len(args) >= 3 and args[0] == "merge":
        return merge(args[1], args[2:])
    if len(args) >= 3 and args[0] == "names":
        return names(args[1], args[2:])
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
