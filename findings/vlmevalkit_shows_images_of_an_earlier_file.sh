#!/usr/bin/env bash
# VLMEvalKit (ms-vlmeval 0.0.20): a dataset's TSV with changed images is asked about with the images of the file before.
#
# The images of a TSV are written to `$LMUData/images/<dataset>/<index>.png`, once: where a readable file of that name
# is, the TSV's own image is not looked at. Questions, options and answers come from the new file. Whoever marks, blurs
# or repairs images and keeps the dataset's name and indices measures the old ones, and finds that the change has no
# effect. Nothing is logged.
# Seen with a TSV of one question about a red image, and again with a blue one: the second prompt shows the red image,
# and its right answer is "blue". Under another dataset name it shows the blue one.
# Of use: another name for every change of images, or an empty `$LMUData/images/<dataset>`.
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
import base64
import importlib.util
import io
import os
import sys
from types import ModuleType

import pandas as pd
from PIL import Image

# Modules of the package without `__init__`, which imports the code of some eighty models.
[home] = importlib.util.find_spec("vlmeval").submodule_search_locations
for name, folder in (("vlmeval", home), ("vlmeval.dataset", f"{home}/dataset")):
    package = sys.modules[name] = ModuleType(name)
    package.__path__ = [folder]
for name, named in (("vlmeval.config", "supported_VLM"), ("vlmeval.api", "OpenAIWrapper")):
    sys.modules[name] = ModuleType(name)
    setattr(sys.modules[name], named, {})
from vlmeval.dataset.image_mcq import CustomMCQDataset


def write(name, colour):
    file = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(file, "PNG")
    row = {"index": 7, "image": base64.b64encode(file.getvalue()).decode(), "question": "Which colour?"}
    row |= {"A": "red", "B": "blue", "answer": "A" if colour == "red" else "B"}
    pd.DataFrame([row]).to_csv(f"{os.environ['LMUData']}/{name}.tsv", sep="\t", index=False)


def shown(name, colour):
    write(name, colour)
    dataset = CustomMCQDataset(name)
    prompt = dataset.build_prompt(0)
    pixel = Image.open(prompt[0]["value"]).convert("RGB").getpixel((0, 0))
    return {(255, 0, 0): "red", (0, 0, 255): "blue"}[pixel], dataset.data["answer"][0]


first, changed, renamed = shown("Colours", "red"), shown("Colours", "blue"), shown("Colours_blue", "blue")
print("image shown, and right answer: first file", first, "changed file", changed, "under another name", renamed)
raise SystemExit(0 if (first, changed, renamed) == (("red", "A"), ("red", "B"), ("blue", "B")) else 1)
PYTHON
