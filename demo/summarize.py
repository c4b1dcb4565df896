"""Summarize measurements: the mean and spread of each group. Finishes by itself."""

import collections
import random
import statistics


def measurements(n):
    rng = random.Random(7)
    for _ in range(n):
        yield rng.choice("abcd"), rng.gauss(20, 4)


groups = collections.defaultdict(list)
for name, value in measurements(20_000):
    groups[name].append(value)
for name, values in sorted(groups.items()):
    print(f"group {name}: n={len(values)} mean={statistics.fmean(values):.2f} sd={statistics.stdev(values):.2f}")
