"""Count which words occur together. The table grows with every document, and nobody has thought of its size."""

import collections
import itertools
import random


def documents():
    rng = random.Random(11)
    while True:
        yield [f"word{int(rng.paretovariate(0.4)) % 50_000}" for _ in range(80)]


together = collections.Counter()
for n, words in enumerate(documents(), 1):
    together.update(itertools.combinations(sorted(set(words)), 2))
    if n % 250 == 0:
        print(f"{n} documents, {len(together)} pairs", flush=True)
