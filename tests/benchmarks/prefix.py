"""What sharing prefixes saves: ratios of ways that take turns in one process.

One sample is asked under K conditions whose prompts differ in 40 to 100 tokens, by a random Qwen2.5-VL of about 80
million parameters, as forced answers (one forward pass) and as 64 decoded tokens:

    a  a loop over the conditions, one prompt per call, as harnesses do it;
    b  one padded batch of all conditions, the image repeated in every row;
    c  `HFModel`, prefixes shared.

Beside each measured ratio stand two ideal ones, of the way to what cannot be avoided (vision tower and prefix once,
every suffix and new token once, nothing padded): `ops` counts floating-point operations; `limit` the time that these
take at the machine's best rate, or, for every decoded token, the time to read weights and cache where that is longer:
decoding is limited by memory, and costs (b) and (c) the same. Both rates are measured first. Not a test: timings depend
on what else the machine does.

    python tests/benchmarks/prefix.py                       # everything, several minutes on two cores
    python tests/benchmarks/prefix.py --image-tokens 256 --conditions 8
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from vlmrobust import HFModel, Prompt, Sample, Style

# Scripts of this folder see each other.
from counting import Rates, count, seconds  # isort: skip

WORDS = (
    "the",
    "a",
    "picture",
    "shows",
    "cube",
    "ball",
    "left",
    "of",
    "red",
    "blue",
    "near",
    "table",
    "and",
    "is",
    "one",
)
SPECIAL = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NEW_TOKENS = 64
VOCABULARY = 32_000
SMALL: dict[str, dict[str, Any]] = {
    "text": {
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 10,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
    },
    "vision": {
        "depth": 6,
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_heads": 8,
        "fullatt_block_indexes": [2, 5],
    },
}
"""About 80 million parameters."""


def build(
    text: Mapping[str, Any] = SMALL["text"],
    vision: Mapping[str, Any] = SMALL["vision"],
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[Any, Any]:
    """Return a random model of the real architecture, and its processor.

    Args:
        text: sizes of the language model.
        vision: sizes of the vision tower.
        device: where the model is made.
        dtype: of its weights.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, initial_alphabet=alphabet, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator([" " + " ".join(WORDS), "A. B. C. D. Answer.\n", "user assistant"] * 50, trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    ids = dict(zip(SPECIAL, wrapped.convert_tokens_to_ids(SPECIAL), strict=True))
    half = text["hidden_size"] // text["num_attention_heads"] // 2
    sections = [half // 4, half // 8 * 3, half // 8 * 3]
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            **text,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "mrope_section": sections, "rope_theta": 1e6},
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={**vision, "out_hidden_size": text["hidden_size"]},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    own = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    with torch.device(device):
        model = Qwen2_5_VLForConditionalGeneration(config).eval()
    torch.set_default_dtype(own)
    # No text ends before the limit, so that all ways decode the same number of tokens.
    model.generation_config.eos_token_id = VOCABULARY - 1
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    limits = {"min_pixels": 28 * 28, "max_pixels": 28 * 28 * 4096}
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**limits), wrapped, Qwen2VLVideoProcessor(), chat_template=TEMPLATE
    )
    return model, processor


def prompts_of(conditions: int, side: int, *, forced: bool) -> list[Prompt]:
    """Return prompts that differ in a context; what follows the image, of `side` pixels, takes 40 to 100 tokens."""
    draw = random.Random(0)
    noise = Image.effect_noise((side, side), 80).convert("RGB")
    sample = Sample(id="q", images=[noise], question="the cube is", options=["red", "blue", "green", "one"], answer=1)
    style = Style(instruction="Answer.", mode="direct" if forced else "think")
    base = Prompt.of(sample, style=style)
    return [
        base.replace(condition=f"c{index}", context=" ".join(draw.choices(WORDS, k=draw.randint(12, 68))))
        for index in range(conditions)
    ]


def plain(model: Any, processor: Any, prompts: Sequence[Prompt], *, forced: bool, new_tokens: int = NEW_TOKENS) -> Any:
    """Answer a padded batch with the processor and the model alone, nothing else read off."""
    inputs = processor(
        text=[prompt.render(processor) for prompt in prompts],
        images=[list(prompt.images) for prompt in prompts],
        padding=True,
        padding_side="left",
        return_tensors="pt",
    ).to(model.device, model.dtype)
    with torch.inference_mode():
        if forced:
            return model(**inputs, logits_to_keep=1).logits[:, -1].log_softmax(-1).argmax(-1)
        config = GenerationConfig(
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=VOCABULARY - 1,
            pad_token_id=model.generation_config.pad_token_id,
        )
        return model.generate(**inputs, generation_config=config)


def measure(
    model: Any,
    processor: Any,
    conditions: int,
    image_tokens: int,
    repetitions: int,
    patience: float,
    rates: Rates,
    *,
    forced: bool,
) -> dict[str, Any]:
    """Return times (smallest of some, in turn; of one where that takes long) and operations of the ways."""
    prompts = prompts_of(conditions, 28 * int(image_tokens**0.5), forced=forced)
    ours = HFModel(model, processor, {"max_new_tokens": NEW_TOKENS})

    def one_by_one() -> None:
        for prompt in prompts:
            plain(model, processor, [prompt], forced=forced)

    ways: dict[str, Callable[[], Any]] = {
        "a": one_by_one,
        "b": lambda: plain(model, processor, prompts, forced=forced),
        "c": lambda: ours.respond(prompts),
    }
    new_tokens = 0 if forced else NEW_TOKENS
    work = count(model, processor, prompts, lambda some: plain(model, processor, some, forced=True), new_tokens)
    ways["c"]()  # which checks once whether prefixes can be shared
    times: dict[str, list[float]] = {way: [] for way in ways}
    begun = time.perf_counter()
    while len(times["c"]) < repetitions and (not times["c"] or time.perf_counter() - begun < patience):
        for way, call in ways.items():
            times[way].append(seconds(call))
    best = {way: min(taken) for way, taken in times.items()}
    row: dict[str, Any] = {"task": f"{NEW_TOKENS} new tokens", "image_tokens": image_tokens, "conditions": conditions}
    if forced:
        row["task"] = "forced answer"
    for way in "ab":
        row[f"over_{way}"] = best[way] / best["c"]
        row[f"operations_over_{way}"] = work[way].operations / work["least"].operations
        row[f"limit_over_{way}"] = work[way].seconds(rates) / work["least"].seconds(rates)
    return row | {"seconds": best, "operations": {way: done.operations for way, done in work.items()}}


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Plot the ratio over the padded batch against the number of conditions, the ideal ones dashed."""
    from matplotlib.figure import Figure

    tasks = sorted({row["task"] for row in rows})
    figure = Figure(figsize=(4.2 * len(tasks), 3.6), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for color, tokens in enumerate(sorted({row["image_tokens"] for row in rows})):
            chosen = [row for row in rows if row["task"] == task and row["image_tokens"] == tokens]
            asked = [row["conditions"] for row in chosen]
            axes.plot(asked, [row["over_b"] for row in chosen], f"C{color}o-", label=f"{tokens} image tokens")
            axes.plot(asked, [row["limit_over_b"] for row in chosen], f"C{color}--")
        axes.set(xscale="log", xlabel="conditions of a sample", ylabel="times faster than a padded batch", title=task)
        axes.set_xticks(sorted({row["conditions"] for row in rows}), sorted({row["conditions"] for row in rows}))
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conditions", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--image-tokens", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--patience", type=float, default=60.0, help="seconds after which nothing is repeated")
    parser.add_argument("--task", choices=["forced", "generation", "both"], default="both")
    parser.add_argument("--json", type=Path, help="where the measurements are written as well")
    parser.add_argument("--plot", type=Path, help="where a plot of them is written (needs matplotlib)")
    arguments = parser.parse_args()
    model, processor = build()
    size = sum(weight.numel() for weight in model.parameters())
    print(f"{size / 1e6:.0f} M parameters, {torch.get_num_threads()} threads")
    rates = Rates.measured()
    print(f"{rates.operations / 1e9:.0f} GFLOP/s, {rates.bytes / 1e9:.1f} GB/s")
    titles = (f"{title:>7}" for title in ("a s", "b s", "c s", "a/c", "ops", "limit", "b/c", "ops", "limit"))
    print(f"{'task':<15} {'image':>6} {'K':>3}", *titles)
    rows = []
    for forced in [True] * (arguments.task != "generation") + [False] * (arguments.task != "forced"):
        for image_tokens in arguments.image_tokens:
            for conditions in arguments.conditions:
                row = measure(
                    model,
                    processor,
                    conditions,
                    image_tokens,
                    arguments.repetitions,
                    arguments.patience,
                    rates,
                    forced=forced,
                )
                rows.append(row)
                kinds = ("over", "operations_over", "limit_over")
                ratios = [row[f"{kind}_{way}"] for way in "ab" for kind in kinds]
                shown = [f"{value:7.3f}" for value in row["seconds"].values()] + [f"{ratio:7.2f}" for ratio in ratios]
                print(f"{row['task']:<15} {image_tokens:>6} {conditions:>3}", *shown, flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    if arguments.plot:
        draw(rows, arguments.plot)


if __name__ == "__main__":
    main()
