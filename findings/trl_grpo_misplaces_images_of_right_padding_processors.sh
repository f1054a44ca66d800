#!/usr/bin/env bash
# trl 1.16.0: GRPO of a Qwen2.5-VL whose processor pads on the right, as Qwen's do by default, computes
# log-probabilities with images in other places than those of its prompts.
#
# Rollouts are generated from prompts that the trainer pads on the left itself. For the loss it runs the processor once
# more, with `padding=True` and no side, and takes `mm_token_type_ids`, from which the model numbers positions, as they
# come: padded on the right. In a batch of prompts of different lengths, the shorter ones then have their image's
# positions on other tokens. Nothing is raised; the ratio of an on-policy step is 1 as always. A trainer that loads the
# processor itself pads it on the left; one that is given `processing_class=AutoProcessor.from_pretrained(…)` does not.
# RLOO and distillation have the same line.
# Seen with a random model of one layer and two prompts with one image each: the log-probabilities of completions of the
# shorter one are off by 1.5 nats from those of one pass over its own tokens, those of the longer one by less than 1e-5;
# with a tokenizer that pads on the left both are exact.
# Of use: `AutoProcessor.from_pretrained(…, padding_side="left")`.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "torchvision==0.29.1" "transformers==5.24.0" "accelerate==1.15.0" \
    "datasets==5.2.0" "trl==1.16.0" "pillow==13.0.0"
export HF_HUB_OFFLINE=1 HF_HOME="$folder/home" OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error
"$folder/venv/bin/python" -W ignore - "$folder/run" <<'PYTHON'
import sys

import torch
from datasets import Dataset
from PIL import Image
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor, Qwen2Tokenizer
from transformers import Qwen2VLImageProcessor, Qwen2VLVideoProcessor
from trl import GRPOConfig, GRPOTrainer

added = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
letters = {letter: number for number, letter in enumerate(["<|endoftext|>", *sorted(ByteLevel.alphabet())])}
TEMPLATE = (
    "{% for turn in messages %}<|im_start|>{% for part in turn['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10_000.0}
text = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "rope_parameters": rope}
text |= {"num_attention_heads": 2, "num_key_value_heads": 2}
vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
vision |= {"fullatt_block_indexes": [0]}
image = Image.effect_noise((56, 56), 64).convert("RGB")
questions = ["Which?", "Which of the two is further to the left of them all?"]
rows = [{"prompt": [{"role": "user", "content": question}], "image": image} for question in questions]


def build(**padding):
    tokenizer = Qwen2Tokenizer(vocab=letters, merges=[], extra_special_tokens=added, **padding)
    images = Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=56 * 56)
    processor = Qwen2_5_VLProcessor(images, tokenizer, Qwen2VLVideoProcessor(), chat_template=TEMPLATE)
    names = {"image_token_id": 4, "video_token_id": 5, "vision_start_token_id": 2, "vision_end_token_id": 3}
    tokens = {name: tokenizer.convert_tokens_to_ids(added[place]) for name, place in names.items()}
    parts = {"text_config": text | {"vocab_size": len(tokenizer)}, "vision_config": vision}
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**parts, **tokens))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    return model, processor


class Kept(GRPOTrainer):
    """Keeps by how much each log-probability is off that of one pass over its own row."""

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep, *args, **fields):
        found = super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *args, **fields
        )
        pixels = dict(self.processing_class.image_processor([image], return_tensors="pt"))
        self.off = {}
        for row, mask, logps in zip(input_ids, attention_mask, found[0].detach(), strict=True):
            row, written = row[mask.bool()][None], int(mask[-logits_to_keep:].sum())
            types = (row == self.model.config.image_token_id).long()
            with torch.no_grad():
                alone = model(input_ids=row, mm_token_type_ids=types, **pixels).logits[0].log_softmax(-1)
            alone = alone[-written - 1 : -1].gather(1, row[0, -written:, None])[:, 0]
            length = row.shape[1] - written
            self.off[length] = max(self.off.get(length, 0.0), float((alone - logps[:written]).abs().max()))
        return found


def reward(completions, **_):
    return [0.0] * len(completions)


def off(**padding):
    model, processor = build(**padding)
    args = GRPOConfig(
        sys.argv[1], max_steps=1, num_generations=2, per_device_train_batch_size=4, max_completion_length=4,
        use_cpu=True, bf16=False, report_to="none", disable_tqdm=True, save_strategy="no",
        gradient_checkpointing=False,
    )
    trainer = Kept(
        model, reward, args, processing_class=processor,
        train_dataset=Dataset.from_list(rows),
    )
    trainer.train()
    return processor.tokenizer.padding_side, [round(trainer.off[length], 6) for length in sorted(trainer.off)]


default, left = off(), off(padding_side="left")
print("padding, log-probabilities off by (short prompt, long prompt): as it comes", default, "left", left)
side, (short, long) = default
raise SystemExit(0 if side == "right" and short > 0.1 and long < 1e-4 and max(left[1]) < 1e-4 else 1)
PYTHON
