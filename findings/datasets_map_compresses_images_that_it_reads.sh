#!/usr/bin/env bash
# datasets 5.2.0: a function under `map` that only reads an image, its width say, changes the pixels of its column.
#
# A row under `map` decodes a column when it is read, and columns that were read are written anew. A JPEG of bytes (as
# parquet files have them) is then compressed once more, at Pillow's default quality of 75, although the function
# returned nothing for it. Columns that were not read keep their bytes. Whoever adds a column of widths, or filters by it
# afterwards, evaluates other images than whoever does not.
# Seen with Pillow 13.0.0 and a JPEG of quality 95 of noise: 5,446 bytes become 2,838, and pixels move by 13 of
# 255 on average; without reading the image not a byte changes, nor with `input_columns=["image"]`. A PNG keeps its
# pixels.
# Of use: name what the function reads in `input_columns`; what is not returned is then handed on as it is.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "datasets==5.2.0" "pillow==13.0.0"
export HF_HUB_OFFLINE=1 HF_HOME="$folder/home" HF_DATASETS_DISABLE_PROGRESS_BARS=1
"$folder/venv/bin/python" - <<'PYTHON'
import io

import numpy as np
from datasets import Dataset, Features, Image, Value
from PIL import Image as Pictures

noise = Pictures.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def stored(kind):
    file = io.BytesIO()
    noise.save(file, kind, **({"quality": 95} if kind == "JPEG" else {}))
    features = Features({"image": Image(), "question": Value("string")})
    return Dataset.from_dict({"image": [{"bytes": file.getvalue(), "path": None}], "question": ["?"]}, features=features)


def change(before, function, **options):
    after = before.map(function, **options)
    pixels = [np.asarray(rows[0]["image"]).astype(int) for rows in (before, after)]
    sizes = [len(rows.cast_column("image", Image(decode=False))[0]["image"]["bytes"]) for rows in (before, after)]
    return float(abs(pixels[0] - pixels[1]).mean()), sizes


read, sizes = change(stored("JPEG"), lambda row: {"width": row["image"].width})
unread, kept = change(stored("JPEG"), lambda row: {"length": len(row["question"])})
named, _ = change(stored("JPEG"), lambda image: {"width": image.width}, input_columns=["image"])
png, _ = change(stored("PNG"), lambda row: {"width": row["image"].width})
print(f"width read: pixels off by {read:.1f} on average, bytes {sizes}; not read: {unread}, {kept}")
print(f"read by input_columns: {named}; PNG read: {png}")
spared = unread == named == png == 0 and kept[0] == kept[1]
raise SystemExit(0 if read > 5 and sizes[1] < 0.7 * sizes[0] and spared else 1)
PYTHON
