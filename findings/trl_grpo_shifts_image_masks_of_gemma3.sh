#!/usr/bin/env bash
# trl 1.16.0: GRPO of a Gemma 3 computes log-probabilities with the mask of its images one token too far to the right.
#
# Image tokens of Gemma 3 attend to each other both ways, as `token_type_ids` say. For the loss the trainer renders the
# chat template, which writes <bos>, and gives the text to the processor, whose tokenizer adds another: the types have
# one entry more than the prompt has tokens, and the model takes them without an error. The first token of an image then
# attends as text does, and the token behind the image as if it were part of it. Rollouts are generated from the
# template's own tokens, with the right mask. `SFTTrainer` and `DPOTrainer` pass `add_special_tokens=False`.
# Seen with a random model of two layers and an image of 4 tokens: off by 0.11 nats from a pass with the types of the
# same tokens; 3e-7 with a tokenizer that adds none (documented default: `add_bos_token=True`).
# Of use: `processor.tokenizer.add_bos_token = False`, where the chat template writes <bos>.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "torchvision==0.29.1" "transformers==5.24.0" "accelerate==1.15.0" \
    "datasets==5.2.0" "trl==1.16.0" "pillow==13.0.0"
export HF_HUB_OFFLINE=1 HF_HOME="$folder/home" OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error
"$folder/venv/bin/python" -W ignore - "$folder/run" <<'PYTHON'
import string
import sys

import torch
from datasets import Dataset
from PIL import Image
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessor, Gemma3Processor
from transformers import GemmaTokenizer
from trl import GRPOConfig, GRPOTrainer

special = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
letters = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", "\n", *string.ascii_letters, "?", "<", ">"]
TEMPLATE = (
    "{{ bos_token }}{% for turn in messages %}<start_of_turn>{% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}<start_of_image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<end_of_turn>"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>{% endif %}"
)
text = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 16, "sliding_window": 64}
text |= {"num_attention_heads": 2, "num_key_value_heads": 2, "query_pre_attn_scalar": 16}
text |= {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
vision |= {"image_size": 56, "patch_size": 14, "vision_use_head": False}
image = Image.effect_noise((56, 56), 64).convert("RGB")
row = {"prompt": [{"role": "user", "content": "Which?"}], "image": image}


def build(**adding):
    tokenizer = GemmaTokenizer(
        {letter: number for number, letter in enumerate(letters)}, extra_special_tokens=special, **adding
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    images = Gemma3ImageProcessor(size={"height": 56, "width": 56})
    processor = Gemma3Processor(images, tokenizer, image_seq_length=4, chat_template=TEMPLATE)
    names = {"boi_token_index": "boi_token", "eoi_token_index": "eoi_token", "image_token_index": "image_token"}
    tokens = {name: tokenizer.convert_tokens_to_ids(special[place]) for name, place in names.items()}
    parts = {"text_config": text | {"vocab_size": len(tokenizer)}, "vision_config": vision}
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(Gemma3Config(**parts, **tokens, mm_tokens_per_image=4))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model, processor


class Kept(GRPOTrainer):
    """Keeps by how much the log-probabilities are off those of one pass over the rows, and where images are."""

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep, *args, **fields):
        found = super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *args, **fields
        )
        types = (input_ids == self.model.config.image_token_id).long()
        self.places = [kind[0].nonzero().flatten().tolist() for kind in (types, fields["token_type_ids"])]
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "pixel_values": fields["pixel_values"]}
        with torch.no_grad():
            logits = model(**inputs, token_type_ids=types).logits[:, -logits_to_keep - 1 : -1]
        alone = logits.log_softmax(-1).gather(2, input_ids[:, -logits_to_keep:, None])[..., 0]
        written = attention_mask[:, -logits_to_keep:].bool()
        self.off = float((alone - found[0].detach()).abs()[written].max())
        return found


def reward(completions, **_):
    return [0.0] * len(completions)


def trained(**adding):
    model, processor = build(**adding)
    args = GRPOConfig(
        sys.argv[1], max_steps=1, num_generations=2, per_device_train_batch_size=2, max_completion_length=4,
        use_cpu=True, bf16=False, report_to="none", disable_tqdm=True, save_strategy="no",
        gradient_checkpointing=False,
    )
    trainer = Kept(model, reward, args, processing_class=processor, train_dataset=Dataset.from_list([row] * 2))
    trainer.train()
    return trainer.off, trainer.places


found = {}
for adds in (True, False):
    found[adds], places = trained(add_bos_token=adds)
    print(f"add_bos_token={adds}: off by {found[adds]:.2g} nats; places of the image's tokens and types: {places}")
raise SystemExit(0 if found[True] > 0.02 and found[False] < 1e-5 else 1)
PYTHON
