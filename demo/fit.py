"""Fit a line by gradient descent with a step that is too long: it never converges. It also "finishes the epoch first" when
it is asked to stop, which is to say never."""

import random
import signal

signal.signal(signal.SIGTERM, lambda *_: print("SIGTERM: finishing the epoch first", flush=True))

rng = random.Random(3)
points = [(x, 2.5 * x + rng.gauss(0, 1)) for x in (rng.uniform(-5, 5) for _ in range(500))]
slope = 0.0
while True:
    gradient = sum((slope * x - y) * x for x, y in points) / len(points)
    slope -= 0.26 * gradient
    if abs(gradient) < 1e-9:
        break
    if abs(slope) > 1e6:
        slope = 0.0
print(f"slope {slope:.3f}")
