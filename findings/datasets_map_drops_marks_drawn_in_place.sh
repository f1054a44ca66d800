#!/usr/bin/env bash
# datasets 5.2.0: what `map` draws onto an image of a file in place is lost; the new column holds the image without it.
#
# An `Image` column whose rows are paths gives PIL images that know their `filename`. Drawing (`ImageDraw.Draw(image)`)
# or pasting keeps that attribute, and `map`, to store the image, stores the path of an image that has one, not its
# pixels. The result reads as the untouched file, in whatever column it was returned; the run looks as it should, and
# the measured effect of the mark is zero. Images of bytes (parquet) and images from methods that return a new one
# (`resize`, `convert`, `copy`) are stored by their pixels.
# Seen with Pillow 13.0.0: a white file under a black rectangle over all of it has a mean of 255 after `map`, a copy of
# it with the same rectangle 0, and the image that the function returned had 0 too.
# Of use: draw onto `image.copy()`.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "datasets==5.2.0" "pillow==13.0.0"
export HF_HUB_OFFLINE=1 HF_HOME="$folder/home" HF_DATASETS_DISABLE_PROGRESS_BARS=1
"$folder/venv/bin/python" - "$folder/white.png" <<'PYTHON'
import sys

import numpy as np
from datasets import Dataset, Image
from PIL import Image as Pictures
from PIL import ImageDraw

Pictures.new("RGB", (32, 32), "white").save(sys.argv[1])
rows = Dataset.from_dict({"image": [sys.argv[1]]}).cast_column("image", Image())
seen = []


def covered(image):
    ImageDraw.Draw(image).rectangle((0, 0, 31, 31), fill="black")
    seen.append(float(np.asarray(image).mean()))
    return image


def mean(function):
    return float(np.asarray(rows.map(function)[0]["marked"]).mean())


in_place = mean(lambda row: {"marked": covered(row["image"])})
on_copy = mean(lambda row: {"marked": covered(row["image"].copy())})
print(f"mean as drawn {seen}; as stored: in place {in_place:.0f}, on a copy {on_copy:.0f}")
raise SystemExit(0 if max(seen) == 0 and in_place == 255 and on_copy == 0 else 1)
PYTHON
