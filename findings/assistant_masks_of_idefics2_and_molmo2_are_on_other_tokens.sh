#!/usr/bin/env bash
# transformers 5.24.0 and trl 1.16.0: with `assistant_only_loss`, Idefics2 learns to write image tokens, and Molmo2
# learns the turn's opener and no end of turn.
#
# `apply_chat_template(return_assistant_tokens_mask=True)` finds the assistant's tokens by characters of the rendered
# text, and moves them by what the shared code of processors inserts for images. Processors that insert it themselves
# are not accounted for: the mask of Idefics2 lies before the answer by the length of what stands for the image, that of
# Molmo2, which puts a BOS in front of a text that has none, one token before it, even without an image. Those of Emu3
# and Nemotron-H Omni are elsewhere, too, where there is an image. SFTTrainer takes the mask for its labels and accepts
# datasets with images since transformers 5.18; nothing is raised.
# Seen with conversations of one question and one answer, "a red cube !": the labels of Idefics2 are <image> <image>
# <image>, those of Molmo2 "assistant a red cube"; Idefics2 without an image and Idefics3 with one are right.
# Of use: decode the labels of a batch once, or use a dataset of prompts and completions.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "torchvision==0.29.1" "transformers==5.24.0" "accelerate==1.15.0" \
    "datasets==5.2.0" "trl==1.16.0" "pillow==13.0.0"
export HF_HUB_OFFLINE=1 HF_HOME="$folder/home" OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import Idefics2ImageProcessor, Idefics2Processor, Idefics3ImageProcessor, Idefics3Processor
from transformers import Molmo2ImageProcessor, Molmo2Processor, Molmo2VideoProcessor, PreTrainedTokenizerFast
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

words = ["<pad>", "<s>", "</s>", "user", "assistant", "what", "is", "it", "?", "a", "red", "cube", "and", "ball", "!"]
TEMPLATE = (
    "{% for turn in messages %}{{ turn['role'] }} {% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE"
    "{% elif turn['role'] == 'assistant' %}{% generation %}{{ part['text'] }}{% endgeneration %} "
    "{% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
)
SIZE = {"height": 56, "width": 56}
MOLMO = ["<|image|>", "<|video|>", "<im_start>", "<im_end>", "<im_patch>", "<im_col>", "<low_res_im_start>", "<im_low>"]
MOLMO += ["<frame_start>", "<frame_end>"]
image = Image.new("RGB", (56, 56), "red")


def tokenizer(*added):
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    made = PreTrainedTokenizerFast(tokenizer_object=made, **special)
    made.add_special_tokens({"additional_special_tokens": list(added)})
    return made


processors = {
    "Idefics2": Idefics2Processor(Idefics2ImageProcessor(do_image_splitting=False), tokenizer(), image_seq_len=4),
    "Molmo2": Molmo2Processor(
        Molmo2ImageProcessor(size=SIZE, max_crops=2, overlap_margins=[0, 0]), Molmo2VideoProcessor(), tokenizer(*MOLMO)
    ),
    "Idefics3": Idefics3Processor(
        Idefics3ImageProcessor(size={"longest_edge": 56}, max_image_size={"longest_edge": 56}), tokenizer(),
        image_seq_len=4,
    ),
}
found = {}
for name, processor in processors.items():
    processor.chat_template = TEMPLATE.replace("IMAGE", "<|image|>" if name == "Molmo2" else "<image>")
    collator = DataCollatorForVisionLanguageModeling(processor, assistant_only_loss=True)
    for pictures in ([image], []):
        turns = [{"role": "user", "content": "what is it ?"}, {"role": "assistant", "content": "a red cube !"}]
        [labels] = collator([{"messages": turns, "images": pictures}])["labels"]
        found[name, len(pictures)] = processor.tokenizer.decode(labels[labels != -100])
        print(f"{name}, {len(pictures)} images, learnt: {found[name, len(pictures)]!r}")
expected = {(name, count): "a red cube !" for name in processors for count in (0, 1)}
expected[("Idefics2", 1)] = "<image> <image> <image>"
expected |= {("Molmo2", count): "assistant a red cube" for count in (0, 1)}
raise SystemExit(0 if found == expected else 1)
PYTHON
