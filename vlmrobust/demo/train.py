"""Trains the bundled demo model from nothing: ``python -m vlmrobust.demo.train --out DIR``.

Five stages, each the cheapest way that was found to teach its part:

1. the vision tower learns to name what every cell of a scene holds;
2. its last layer is fitted to the embeddings of those words, and the rest of it is frozen;
3. the language model learns to describe the scene, conclude, and give the letter, with short prompts, while a few of
   its attention heads are shown where to look (see :mod:`vlmrobust.demo.pointers`);
4. it goes on without being shown;
5. and with the library's own prompts, rendered by :class:`vlmrobust.Prompt` as they are asked later.

Nothing false is ever trained on: neither a wrong caption nor a wrong thought. Scenes that
:func:`vlmrobust.demo.samples` draws are never shown. On one machine the same seed gives the same weights. It takes
transformers 5, which makes the tokenizer; transformers 4.57 loads the result as well.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vlmrobust.demo import evaluate, language, questions, vision
from vlmrobust.demo.processor import build_processor
from vlmrobust.types import Prompt, Style


@dataclass(frozen=True)
class Recipe:
    """Everything that the training depends on besides the code."""

    seed: int = 0
    scenes: int = 20_000
    held_out: int = 300
    see_steps: int = 500
    see_rate: float = 2e-3
    shown_steps: int = 900
    short_steps: int = 800
    full_steps: int = 900
    answer_rate: float = 2e-3
    batch_size: int = 32
    captioned: float = 0.4
    answer_weight: float = 4.0
    width: int = 128
    layers: int = 4
    heads: int = 4
    intermediate: int = 320
    vision_width: int = 96
    vision_layers: int = 3

    def scaled(self, factor: float) -> Recipe:
        """The same recipe with fewer scenes and steps, to see that it runs."""
        names = ("scenes", "held_out", "see_steps", "shown_steps", "short_steps", "full_steps")
        return replace(self, **{name: max(20, round(getattr(self, name) * factor)) for name in names})


def build_model(recipe: Recipe, tokenizer: Any) -> Any:
    """A small, untrained Qwen2.5-VL."""
    from transformers import GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    def token(text: str) -> int:
        return int(tokenizer.convert_tokens_to_ids(text))

    half_head = recipe.width // recipe.heads // 2
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": recipe.width,
            "intermediate_size": recipe.intermediate,
            "num_hidden_layers": recipe.layers,
            "num_attention_heads": recipe.heads,
            "num_key_value_heads": recipe.heads,
            "max_position_embeddings": 4096,
            "initializer_range": 0.08,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [half_head - 2 * (half_head // 4), half_head // 4, half_head // 4],
            },
            "bos_token_id": token("<|endoftext|>"),
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|endoftext|>"),
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": recipe.vision_layers,
            "hidden_size": recipe.vision_width,
            "intermediate_size": 2 * recipe.vision_width,
            "num_heads": recipe.vision_width // 32,
            "out_hidden_size": recipe.width,
            "fullatt_block_indexes": list(range(recipe.vision_layers)),
            "initializer_range": 0.02,
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    config.initializer_range = 0.08
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=token("<|im_end|>"), pad_token_id=token("<|endoftext|>"), max_new_tokens=96
    )
    language.start_copying(model)
    return model


class Log:
    """What happened, with the seconds since the start; printed, and written beside the weights."""

    def __init__(self) -> None:
        self.started, self.cpu_started = time.perf_counter(), time.process_time()
        self.lines: list[str] = []
        self.losses: list[tuple[int, float]] = []
        self._recent: list[float] = []

    def say(self, text: str) -> None:
        """Notes a line."""
        line = f"{self.seconds():7.0f} s, {self.cpu_seconds():7.0f} s CPU: {text}"
        self.lines.append(line)
        print(line, flush=True)

    def loss(self, step: int, value: float, every: int = 50) -> None:
        """Notes the mean loss of every so many steps."""
        self._recent.append(value)
        if step % every == 0:
            self.losses.append((step, round(sum(self._recent) / len(self._recent), 4)))
            self.say(f"step {step}: loss {self.losses[-1][1]}")
            self._recent = []

    def seconds(self) -> float:
        """Wall time since the start."""
        return time.perf_counter() - self.started

    def cpu_seconds(self) -> float:
        """CPU time of this process since the start."""
        return time.process_time() - self.cpu_started


def train(recipe: Recipe, log: Log) -> tuple[Any, Any]:
    """Runs all stages; returns the model and its processor."""
    torch.manual_seed(recipe.seed)
    samples = [questions.to_sample(index, recipe.seed, "training") for index in range(recipe.scenes)]
    drawn = [(*questions.draw(index, recipe.seed, "training"), sample) for index, sample in enumerate(samples)]
    corpus = [
        f"{Prompt.of(sample).text} {sample.texts['correct_caption']} {sample.texts['correct_think']}"
        for sample in samples[:2000]
    ]
    processor = build_processor(corpus)
    model = build_model(recipe, processor.tokenizer)
    tower = model.model.visual
    pictures = vision.Pictures.draw(
        [scene for scene, _, _ in drawn], (evaluate.picture(sample) for sample in samples), processor
    )
    log.say(f"{recipe.scenes} scenes drawn, {len(processor.tokenizer)} tokens, {model.num_parameters()} parameters")

    seen = vision.learn_to_see(tower, pictures, recipe.see_steps, 64, recipe.see_rate)
    log.say(f"stage 1: cells named right {seen:.4f}")
    features = vision.features_of(tower, pictures)

    reader = language.Reader(model, processor, pictures.grid)
    explained = vision.speak_words(model, pictures, features, processor.tokenizer)
    log.say(f"stage 2: variance explained {explained:.4f}")
    short, full = (
        language.Episodes.write(drawn, processor, captioned=recipe.captioned, style=style, seed=recipe.seed)
        for style in (Style(instruction=""), None)
    )
    language.learn_to_answer(
        reader,
        [(short, recipe.shown_steps, 1.0), (short, recipe.short_steps, 0.0), (full, recipe.full_steps, 0.0)],
        features,
        recipe.batch_size,
        recipe.answer_rate,
        recipe.answer_weight,
        log.loss,
    )
    return model.eval(), processor


def rewrite(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Changes a JSON file."""
    file.write_text(json.dumps(change(json.loads(file.read_text())), indent=2) + "\n")


def _with_older_special_tokens(config: dict[str, Any]) -> dict[str, Any]:
    config["additional_special_tokens"] = config.pop("extra_special_tokens")
    return config


def _with_older_rope(config: dict[str, Any]) -> dict[str, Any]:
    text = config["text_config"]
    rope = text.pop("rope_parameters")
    text["rope_theta"] = rope["rope_theta"]
    text["rope_scaling"] = {"type": "mrope", "rope_type": "default", "mrope_section": rope["mrope_section"]}
    return config


def save(model: Any, processor: Any, folder: Path) -> str:
    """Writes weights in half precision and all that both transformers 4.57 and 5 need to load them.

    Returns:
        The SHA-256 of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)
    # transformers 4 reads these two, transformers 5 the processor's own file.
    processor.image_processor.save_pretrained(folder)
    processor.video_processor.save_pretrained(folder)
    # Two names have changed between them; transformers 5 still reads the older ones.
    rewrite(folder / "tokenizer_config.json", _with_older_special_tokens)
    rewrite(folder / "config.json", _with_older_rope)
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def main() -> None:
    """Trains, saves, measures the saved model, and writes ``training_log.json`` beside it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps-scale", type=float, default=1.0, help="0.02 only shows that it runs")
    arguments = parser.parse_args()
    recipe = Recipe(seed=arguments.seed)
    if arguments.steps_scale != 1.0:
        recipe = recipe.scaled(arguments.steps_scale)
    log = Log()
    model, processor = train(recipe, log)
    digest = save(model, processor, arguments.out)
    log.say(f"saved, sha256 {digest}")
    figures = evaluate.measure(*evaluate.load(arguments.out), recipe.held_out)
    log.say(f"accuracy {figures['base']['accuracy']}, by kind {figures['base']['accuracy_by_kind']}")
    import transformers

    record = {
        "command": f"python -m vlmrobust.demo.train --seed {recipe.seed} --steps-scale {arguments.steps_scale}",
        "recipe": asdict(recipe),
        "sha256": digest,
        "parameters": model.num_parameters(),
        "wall_seconds": round(log.seconds()),
        "cpu_seconds": round(log.cpu_seconds()),
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "losses": log.losses,
        "figures": figures,
        "lines": log.lines,
    }
    (arguments.out / "training_log.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
