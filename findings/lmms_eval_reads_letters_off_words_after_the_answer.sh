#!/usr/bin/env bash
# lmms-eval 0.7.3: the letter that its shared extractor finds in "The answer is B. Car" is C.
#
# After "the answer is" and the like it takes the first place of every letter, within words too, and of these the last:
# the capital of the option's own text wins over the letter before it. What a reply begins and ends with goes before
# such a phrase: an article "A" at its beginning is answer A, and so is the end of "B, not A". Replies of one letter, or
# "B. Car", are read right, so that a model scores less the more it explains. Sixteen tasks use it, MMStar, MMBench,
# RealWorldQA, ERQA and Video-MME among them; it was made for replies whose thought has been stripped.
# Seen with ten replies that say B, listed below: four are read as B, the others as A, C or D. (Its file only is read.)
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-deps "lmms-eval==0.7.3"
export OMP_NUM_THREADS=1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import importlib.util
from pathlib import Path

# The module of the package alone: `lmms_eval.tasks` imports torch and more.
[home] = importlib.util.find_spec("lmms_eval").submodule_search_locations
spec = importlib.util.spec_from_file_location("mcq_extract", Path(home, "tasks/_task_utils/mcq_extract.py"))
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

expected = {  # each says B
    "B": "B",
    "The answer is B.": "B",
    "B. Car": "B",
    "The answer is B. car": "B",
    "The answer is B. Car": "C",
    "The correct answer is (B) Car.": "C",
    "The best option is B: Adult": "A",
    "The answer is B, not A.": "A",
    "A red car is on the left, so the answer is B.": "A",
    "The answer is B because the Dog is behind it.": "D",
}
found = {}
for reply in expected:
    found[reply] = module.extract_mcq_answer(reply, choices=["A", "B", "C", "D"])
    print(f"{found[reply]} <- {reply}")
raise SystemExit(0 if found == expected else 1)
PYTHON
