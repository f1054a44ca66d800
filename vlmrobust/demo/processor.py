"""The demo model's tokenizer, chat template and image processor: stock classes, made from the demo's own texts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from vlmrobust.demo import shapes

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
OPTION_WORDS = (*shapes.COLOURS, *shapes.SHAPES, *shapes.NUMBERS, *shapes.POSITIONS, *shapes.RELATIONS)
IMAGE_SIDE = 56
"""Images are reduced to this many pixels a side: one token of the language model for each cell of a scene."""
IMAGE_TOKENS = (IMAGE_SIDE // 28) ** 2

# ChatML as Qwen2.5-VL writes it, without the system turn that its template adds on its own: prompts stay short.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] in ('image', 'image_url') %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def train_tokenizer(texts: Iterable[str]) -> Any:
    """Trains a byte-level BPE with Qwen's rules for splitting words; any text comes back as it went in.

    Args:
        texts: What its words are learned from; every option word becomes one token, with and without a space before.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    frame = Qwen2Tokenizer(vocab={"<|endoftext|>": 0}, merges=[])  # for its normaliser and its pattern
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = frame.backend_tokenizer.normalizer
    tokenizer.pre_tokenizer = frame.backend_tokenizer.pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,  # never reached: merging ends where no pair is left that occurs often
        min_frequency=20,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    options = [text for word in (*OPTION_WORDS, "user", "assistant") for text in (word, f" {word}")] * 100
    tokenizer.train_from_iterator([*texts, *options], trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    settings: dict[str, Any] = {
        "merges": [tuple(pair) for pair in learned["merges"]],
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "model_max_length": 4096,
        "padding_side": "left",
        "extra_special_tokens": list(SPECIAL_TOKENS),
    }
    qwen = Qwen2Tokenizer(vocab=learned["vocab"], **settings)
    qwen.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return qwen


def build_processor(texts: Iterable[str]) -> Any:
    """Makes the stock Qwen2.5-VL processor around a tokenizer trained on ``texts``."""
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    pixels = {"shortest_edge": IMAGE_SIDE**2, "longest_edge": IMAGE_SIDE**2}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels),
        tokenizer=train_tokenizer(texts),
        video_processor=Qwen2VLVideoProcessor(size=pixels),
        chat_template=CHAT_TEMPLATE,
    )
