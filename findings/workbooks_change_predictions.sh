#!/usr/bin/env bash
# pandas 3.1.1, XlsxWriter 3.3.1, openpyxl 3.1.5: predictions do not survive the workbook in which VLMEvalKit keeps them.
#
# VLMEvalKit writes predictions with `to_excel(engine="xlsxwriter")` and reads them with `read_excel`, to score them, to
# judge them and to resume a run. A text that begins with "=" or "{=" ("=> The answer is B") is stored as a formula whose
# cached result is 0: it comes back as the number 0, with no warning. (Written by openpyxl, pandas' other engine, it comes
# back as NaN.) A text of more than 32,767 characters is cut there, so that a long chain of thought loses the answer after
# it, and one that begins with "http://" and has more than 2,079 characters leaves an empty cell; both are warned of at the
# end of a run, when the texts are gone.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "pandas==3.1.1" "xlsxwriter==3.3.1" "openpyxl==3.1.5"
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import sys

import pandas as pd

thought = "I look at it once more. " * 2000
texts = ["B", "=> The answer is B", "{=B}", thought + "The answer is B.", "http://example.org/ is shown. " + thought[:2100]]
path = f"{sys.argv[1]}/predictions.xlsx"
seen = {}
for engine in ("xlsxwriter", "openpyxl"):
    pd.DataFrame({"index": range(len(texts)), "prediction": texts}).to_excel(path, index=False, engine=engine)
    cells = pd.read_excel(path)["prediction"].tolist()
    seen[engine] = [None if pd.isna(cell) else len(cell) if len(str(cell)) > 99 else cell for cell in cells]
    print(f"written by {engine}, read back (long texts as their lengths):", seen[engine])
as_seen = seen == {
    "xlsxwriter": ["B", 0, 0, 32767, None],
    "openpyxl": ["B", None, "{=B}", 32767, len(texts[-1])],
}
raise SystemExit(0 if as_seen else 1)
PYTHON
