#!/usr/bin/env bash
# VLMEvalKit (ms-vlmeval 0.0.20): with the environment variable VERBOSE, "The answer is A." counts as wrong where A is
# right.
#
# What finds the letter in a reply says, where VERBOSE is set, that an "A" among more than three words may be an
# article, and then returns no letter at all; without VERBOSE the same reply is the letter A. Any text counts as set,
# "0" too. With `exact_matching` the reply is wrong, otherwise it goes to the judge; other letters are not affected.
# Accuracy thus falls by the share of right answers A, on the machine that logs more.
# Seen with right replies "The answer is A." to "… C.": all count as right without VERBOSE, and all but the one of A
# with VERBOSE=1 or VERBOSE=0; "A." alone is right always.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-deps "ms-vlmeval==0.0.20"
"$folder/venv/bin/pip" install --quiet "pandas==3.1.1" "pillow==13.0.0" "validators==0.35.0" "sty==1.0.6" "openpyxl==3.1.5" \
    "xlsxwriter==3.3.1" "tabulate==0.9.0" "portalocker==3.2.0" "requests==2.34.2" "tqdm==4.70.1" "rich==15.0.0" \
    "python-dotenv==1.2.4" "matplotlib==3.11.2" "huggingface_hub==2.4.0"
mkdir "$folder/data"
export LMUData="$folder/data"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import importlib.util
import os
import sys
from types import ModuleType

# Modules of the package without `__init__`, which imports the code of some eighty models.
[home] = importlib.util.find_spec("vlmeval").submodule_search_locations
for name, folder in (("vlmeval", home), ("vlmeval.dataset", f"{home}/dataset")):
    package = sys.modules[name] = ModuleType(name)
    package.__path__ = [folder]
from vlmeval.dataset.utils.multiple_choice import eval_vanilla

options = {"A": "a cube", "B": "a ball", "C": "a cone"}
replies = {letter: f"The answer is {letter}." for letter in options} | {"A alone": "A."}
found = {}
for setting in (None, "0", "1"):
    os.environ.pop("VERBOSE", None)
    if setting is not None:
        os.environ["VERBOSE"] = setting
    found[setting] = {}
    for letter, reply in replies.items():
        item = options | {"question": "What is it?", "prediction": reply, "GT": letter[0]}
        found[setting][letter] = eval_vanilla(None, item)["hit"]
    print(f"VERBOSE={setting}: right answers that count as right:", found[setting])
right = dict.fromkeys(replies, 1)
raise SystemExit(0 if found == {None: right, "0": right | {"A": 0}, "1": right | {"A": 0}} else 1)
PYTHON
