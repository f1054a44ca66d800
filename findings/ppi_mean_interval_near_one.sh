#!/usr/bin/env bash
# ppi-python 0.2.3: the interval of ppi_mean_ci for a rate near 1 ends above 1 in most samples, and holds too seldom.
#
# 1,000 responses, 100 of them labelled, a true rate of 0.975, a judge with 5 % false alarms and 20 % misses: nothing
# unusual where a language model's consistency is judged. 2,000 samples of that kind, nominal level 0.95, power tuning
# on (lam=None, the default). Seen with Python 3.11 and numpy 2.4.6: coverage 0.897, upper end above 1 in 0.60.
# The interval is a normal approximation, and few of the 100 labels tell anything: most samples have two or three errors.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "ppi-python==0.2.3"
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from ppi_py import ppi_mean_ci

random, sets = np.random.default_rng(0), 2000
held = beyond = 0
for _ in range(sets):
    truth = (random.random(1000) < 0.975).astype(float)
    judged = np.where(truth == 1, random.random(1000) >= 0.05, random.random(1000) < 0.2).astype(float)
    low, high = (float(np.ravel(end)[0]) for end in ppi_mean_ci(truth[:100], judged[:100], judged[100:], alpha=0.05))
    held += low <= 0.975 <= high
    beyond += high > 1
print(f"coverage {held / sets:.3f} at level 0.95; upper end above 1 in {beyond / sets:.2f}")
raise SystemExit(0 if held / sets < 0.92 and beyond / sets > 0.4 else 1)
PYTHON
