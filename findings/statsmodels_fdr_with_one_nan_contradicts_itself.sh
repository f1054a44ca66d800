#!/usr/bin/env bash
# statsmodels 0.15.0: one p-value of NaN in `multipletests` makes every p-value that Benjamini-Hochberg adjusts NaN,
# while the same call still rejects three of the hypotheses; Holm and Bonferroni count it as one test more.
#
# A condition that has too few pairs has no p-value, and NaN is what scipy gives for it. Nothing is raised. Whoever reads
# the adjusted p-values (`adjusted < 0.05`) finds no effect at all, whoever reads `reject` finds three; and with Holm all
# others are adjusted for a test that was never made.
# Seen with 0.001, 0.01, 0.02, 0.8 and NaN: fdr_bh rejects the first three and adjusts all to NaN, so do fdr_by and
# simes-hochberg their adjusted ones; holm's for 0.02 is 0.06 with the NaN, not rejected, and 0.04 without it, rejected.
# Of use: leave out NaN before the adjustment.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "statsmodels==0.15.0" "scipy==1.17.1" "numpy==2.4.6" "pandas==3.1.1"
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from statsmodels.stats.multitest import multipletests

tested = [0.001, 0.01, 0.02, 0.8]
found = {}
for method in ("fdr_bh", "fdr_by", "simes-hochberg", "holm"):
    for values in (tested, [*tested, np.nan]):
        rejected, adjusted = multipletests(values, alpha=0.05, method=method)[:2]
        found[method, len(values)] = rejected[:4].tolist(), adjusted[:4].round(4).tolist()
        print(f"{method:15} of {len(values)} values: rejected {found[method, len(values)]}")
lost = all(np.isnan(found[method, 5][1]).all() for method in ("fdr_bh", "fdr_by", "simes-hochberg"))
contradicts = found["fdr_bh", 5][0] == [True, True, True, False]
counted = found["holm", 5] == ([True, True, False, False], [0.005, 0.04, 0.06, 1.0])
without = found["holm", 4][0] == [True, True, True, False]
raise SystemExit(0 if lost and contradicts and counted and without else 1)
PYTHON
