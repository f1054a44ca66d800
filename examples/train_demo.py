"""Train the bundled demo model from scratch: `python examples/train_demo.py --out DIR`.

Five stages, each the cheapest way that was found to train its part:

1. the vision tower learns to name the contents of every cell of a scene;
2. its last layer is fitted to the embeddings of those words, and the rest of it is frozen;
3. the language model learns to describe the scene, conclude, and give the letter, with short prompts, while a few of
   its attention heads get attention targets (`demo_language.Finder`);
4. training continues without these targets;
5. and then with the library's own prompts, rendered by `vlmrobust.Prompt` as in an evaluation.

The model is never trained on anything false: neither a wrong caption nor a wrong thought. Scenes that
`vlmrobust.demo.samples` draws are never used. On one machine, the same seed gives the same weights. The script needs
transformers 5, which builds the tokenizer; transformers 4.57 can load the result as well.
"""

import argparse
import hashlib
import json
import platform
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import demo_vision
import numpy as np
import torch
from demo_language import IMAGE_SIDE, OPTION_WORDS, Drawn, Episodes, Finder, Log, Reader, Turn, learn_to_answer

from vlmrobust.demo import evaluate, scenes
from vlmrobust.prompting import LETTERS
from vlmrobust.types import Prompt, Style, open_image

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
# ChatML as in Qwen2.5-VL, without the default system turn of its template, to keep prompts short.
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


@dataclass(frozen=True)
class Recipe:
    """All training settings, apart from the code."""

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

    def scaled(self, factor: float) -> "Recipe":
        """Return the same recipe with fewer scenes and steps, for a test run."""
        names = ("scenes", "held_out", "see_steps", "shown_steps", "short_steps", "full_steps")
        return replace(self, **{name: max(20, round(getattr(self, name) * factor)) for name in names})


def train_tokenizer(texts: Iterable[str]) -> Any:
    """Train a byte-level BPE with Qwen's word-splitting rules; every text survives a round trip unchanged.

    Args:
        texts: Training texts; every option word becomes one token, with and without a leading space.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    frame = Qwen2Tokenizer(vocab={"<|endoftext|>": 0}, merges=[])  # for its normaliser and its pattern
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = frame.backend_tokenizer.normalizer
    tokenizer.pre_tokenizer = frame.backend_tokenizer.pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,  # never reached: merging ends when no frequent pair is left
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
    """Return the stock Qwen2.5-VL processor with a tokenizer trained on the texts."""
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    pixels = {"shortest_edge": IMAGE_SIDE**2, "longest_edge": IMAGE_SIDE**2}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels),
        tokenizer=train_tokenizer(texts),
        video_processor=Qwen2VLVideoProcessor(size=pixels),
        chat_template=CHAT_TEMPLATE,
    )


def build_model(recipe: Recipe, tokenizer: Any) -> Any:
    """Return a small, untrained Qwen2.5-VL."""
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
    start_copying(model)
    return model


def start_copying(model: Any, scale: float = 2.0) -> None:
    """Initialise every attention head with equal queries and keys, so that words attend to the same words.

    Most of this model's work is looking up a word elsewhere in the text; with independent queries and keys, this takes
    very long to emerge. (The idea is called mimetic initialisation.)
    """
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            attention = layer.self_attn
            attention.k_proj.weight.mul_(scale)
            attention.q_proj.weight.copy_(attention.k_proj.weight)
            attention.o_proj.weight.mul_(0.5)
            layer.mlp.down_proj.weight.mul_(0.5)


def episodes_of(drawn: list[Drawn], processor: Any, recipe: Recipe, style: Style | None = None) -> Episodes:
    """Return samples with the library's prompts and the target thought and letter; some have a true caption."""
    rng = np.random.default_rng([3, recipe.seed])
    turns = []
    for _, _, sample in drawn:
        prompt = Prompt.of(sample, style=style)
        if rng.random() < recipe.captioned:
            prompt = prompt.replace(context=sample.texts["correct_caption"])
        thought, letter = sample.texts["correct_think"], LETTERS[sample.answer]
        turns.append(Turn(prompt, f"<think>{thought}</think><answer>{letter}</answer><|im_end|>"))
    finder = Finder(processor.tokenizer)
    return Episodes.write(turns, processor, lambda row, asked, tokens: finder.pointers(*drawn[row][:2], asked, tokens))


def train(recipe: Recipe, log: Log) -> tuple[Any, Any]:
    """Run all stages and return the model and its processor."""
    torch.manual_seed(recipe.seed)
    samples = [scenes.to_sample(index, recipe.seed, "training") for index in range(recipe.scenes)]
    drawn = [(*scenes.draw(index, recipe.seed, "training"), sample) for index, sample in enumerate(samples)]
    corpus = [
        f"{Prompt.of(sample).text} {sample.texts['correct_caption']} {sample.texts['correct_think']}"
        for sample in samples[:2000]
    ]
    processor = build_processor(corpus)
    model = build_model(recipe, processor.tokenizer)
    tower = model.model.visual
    pictures = demo_vision.Pictures.draw(
        [scene for scene, _, _ in drawn], (open_image(sample.images[0]) for sample in samples), processor
    )
    log.say(f"{recipe.scenes} scenes drawn, {len(processor.tokenizer)} tokens, {model.num_parameters()} parameters")

    seen = demo_vision.learn_to_see(tower, pictures, recipe.see_steps, 64, recipe.see_rate)
    log.say(f"stage 1: cells named right {seen:.4f}")
    features = demo_vision.features_of(tower, pictures)

    reader = Reader(model, processor, pictures.grid)
    explained = demo_vision.speak_words(model, pictures, features, processor.tokenizer)
    log.say(f"stage 2: variance explained {explained:.4f}")
    short, full = (episodes_of(drawn, processor, recipe, style) for style in (Style(instruction=""), None))
    learn_to_answer(
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
    """Update a JSON file."""
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
    """Save the weights in half precision, with all files that transformers 4.57 and 5 need to load them.

    Returns:
        The SHA-256 of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)
    # transformers 4 reads these two files, transformers 5 the processor's own file.
    processor.image_processor.save_pretrained(folder)
    processor.video_processor.save_pretrained(folder)
    # Two names differ between the versions; transformers 5 still reads the older ones.
    rewrite(folder / "tokenizer_config.json", _with_older_special_tokens)
    rewrite(folder / "config.json", _with_older_rope)
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def main() -> None:
    """Train, save, evaluate the saved model, and write `training_log.json` next to it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps-scale", type=float, default=1.0, help="0.02 for a test run")
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
        "command": f"python examples/train_demo.py --seed {recipe.seed} --steps-scale {arguments.steps_scale}",
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
