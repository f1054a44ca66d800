#!/usr/bin/env bash
# datasets 5.2.0 with the chat templates of Qwen2.5-VL and Qwen3-VL: a question that has been through a dataset is
# rendered as a second image, and its text is gone.
#
# Messages in Qwen's form have parts {"type": "image", "image": …} and {"type": "text", "text": …}. Arrow has one struct
# for all parts of a list, so that a dataset (or a parquet file) gives each part all keys, None where there was none. The
# templates take every part that has the key "image" for an image, whatever its type and value: the text's part renders
# as <|vision_start|><|image_pad|><|vision_end|>, and nothing is raised. Where images are named by their type alone,
# {"type": "image"}, the text stays.
# Seen with the templates that trl 1.16.0 ships (its file only is read; torch is not needed).
# Of use: drop the keys that are None from parts before rendering, as `remove_none_values` of trl.trainer.utils does.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "datasets==5.2.0" "jinja2==3.1.6"
"$folder/venv/bin/pip" install --quiet --no-deps "trl==1.16.0"
export HF_HUB_OFFLINE=1 HF_HOME="$folder/home"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import files

from datasets import Dataset
from jinja2 import Environment

QUESTION = "What is in front of the red cube?"


def stored(part):
    messages = [{"role": "user", "content": [part, {"type": "text", "text": QUESTION}]}]
    return messages, Dataset.from_list([{"messages": messages}])[0]["messages"]


def shows(name, messages):
    """Return how many images a template renders, and whether the question."""
    [path] = [file for file in files("trl") if str(file).endswith(f"chat_templates/{name}.jinja")]
    text = Environment().from_string(path.read_text()).render(messages=messages, add_generation_prompt=True)
    return text.count("<|image_pad|>"), QUESTION in text


right = True
for name in ("qwen2_5_vl", "qwen3_vl"):
    before, after = (shows(name, messages) for messages in stored({"type": "image", "image": "scene.png"}))
    by_type = shows(name, stored({"type": "image"})[1])
    print(f"{name}: (images, question is there) before {before}, after {after}; image named by its type only {by_type}")
    right &= (before, after, by_type) == ((1, True), (2, False), (1, True))
raise SystemExit(0 if right else 1)
PYTHON
