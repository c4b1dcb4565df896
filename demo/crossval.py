"""Cross-validate in worker processes, one for each fold. One fold needs more memory than there is; the others go on."""

import subprocess
import sys

FOLD = """
import sys
fold = int(sys.argv[1])
rows = 400_000 if fold == 2 else 4_000
table = [[float(i * j) for j in range(40)] for i in range(rows)]
print(f"fold {fold}: loss {sum(map(sum, table)) % 97 / 97:.3f}")
"""

failed = 0
for fold in range(4):
    worker = subprocess.run([sys.executable, "-c", FOLD, str(fold)], check=False)
    if worker.returncode:
        failed += 1
        print(f"fold {fold}: its worker ended with {worker.returncode}; going on without it", flush=True)
print(f"{4 - failed} of 4 folds")
