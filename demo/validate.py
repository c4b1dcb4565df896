"""Validate a table. Exits 3 when rows are bad, as a program of one's own would."""

import csv
import io
import sys

TABLE = "id,age,score\n1,34,0.7\n2,-1,0.4\n3,51,1.9\n4,twelve,0.2\n"


def problems(row):
    if not row["age"].isdigit():
        yield f"age {row['age']!r} is not a number of years"
    if not 0 <= float(row["score"]) <= 1:
        yield f"score {row['score']} is not between 0 and 1"


bad = 0
for row in csv.DictReader(io.StringIO(TABLE)):
    for problem in problems(row):
        bad += 1
        print(f"row {row['id']}: {problem}", file=sys.stderr)
sys.exit(3 if bad else 0)
