"""Train the initial model of `train_grpo.py`'s runs: small, and able to answer with and without a thought.

It continues from the bundled model, which was trained on nothing false and cannot answer without a thought. Here it
learns five kinds of turns, so that every finding of arXiv:2602.12506 could appear: thoughts as before; short ones that
conclude at once; given ones without content, after which only the letter is left; given ones with a wrong conclusion,
followed by the thought's letter or the true one; and captions, some of them false. For the first steps it gets
attention targets in the image. Then noise is added to its weights, and training continues until its accuracy is in the
middle, so that it can change in both directions.

    OMP_NUM_THREADS=1 python examples/train_grpo.py start

On one machine, the same versions and seed give the same weights. `start.json` next to them has recipe, log, versions
and the card's figures.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from demo_language import (
    ASKED,
    IMAGE_TOKENS,
    SOURCE,
    Drawn,
    Episodes,
    Finder,
    Log,
    Reader,
    Turn,
    batches,
    one_cycle,
    pointers_loss,
    step,
)
from demo_vision import Pictures, features_of

import vlmrobust as vr
from vlmrobust.demo import evaluate, scenes
from vlmrobust.perturbations import BlankImage, CorrectCaption, CorrectThink, StopThink, WrongCaption, WrongThink
from vlmrobust.rl.trained_model import undisturbed
from vlmrobust.types import Prompt, Sample, open_image
from vlmrobust.workers import ThisProcess

KINDS = ("colour", "shape", "position")
SHORT = ("", "Okay.", "Let me see.", "I look at it.", "This is it.", "Now the answer.", "I see.", "So.")
"""Given thoughts without content; `stop_think`'s own words are not among them."""


@dataclass(frozen=True)
class Recipe:
    """All settings of the start, apart from the code and the bundled weights."""

    seed: int = 0
    scenes: int = 6_000
    steps: int = 1_000
    shown_steps: int = 600
    direct_size: int = 24
    thought_size: int = 8
    rate: float = 1e-3
    answer_weight: float = 4.0
    concluding: float = 0.25
    misled: float = 0.25
    misled_true: float = 0.35
    captioned: float = 0.25
    false_captions: float = 0.25
    noise: float = 0.3
    noise_rate: float = 3e-4
    every: int = 10
    enough: float = 0.55
    enough_direct: float = 0.4
    most_steps: int = 400
    held_out: int = 150


def turn(sample: Sample, kind: str, recipe: Recipe, rng: np.random.Generator) -> Turn:
    """Draw the training turn of a sample."""
    prompt, answer = Prompt.of(sample), sample.answer
    wrong = [option for option in range(len(sample.options)) if option != sample.answer]
    if rng.random() < recipe.captioned:
        false = rng.random() < recipe.false_captions
        caption = sample.texts["wrong_caption"][int(rng.choice(wrong))] if false else sample.texts["correct_caption"]
        prompt = prompt.replace(context=caption)
    given = wanted = ""
    if kind == "direct":
        given = f"<think>{rng.choice(SHORT)}</think>"
    elif kind == "concluding":
        wanted = f"<think>So the answer is {sample.options[answer]}.</think>"
    elif kind == "misled":
        asserted = int(rng.choice(wrong))
        given, wanted = f"<think>{sample.texts['wrong_think'][asserted]}", "</think>"
        answer = answer if rng.random() < recipe.misled_true else asserted
    else:
        wanted = f"<think>{sample.texts['correct_think']}</think>"
    wanted += f"<answer>{'ABCD'[answer]}</answer><|im_end|>"
    return Turn(prompt, wanted, given, concludes=kind in ("thought", "concluding"))


def looks(
    finder: Finder, scene: scenes.Scene, question: scenes.Question, prompt: list[int], at: int
) -> Iterator[tuple[int, int, int, int]]:
    """Yield the attention targets of a letter: what is asked about, its cell in the image, and the option."""
    image = prompt.index(finder.image_id)
    options = max(place for place, token in enumerate(prompt[:-1]) if token == finder.lettered)
    asked = [place for place in range(image + IMAGE_TOKENS, options) if prompt[place] in finder.naming]
    asked = asked[-{"position": 2}.get(question.kind, 1) :]
    for head, place in enumerate(asked):
        yield ASKED, head, at, place
    told = {prompt[place] for place in asked}
    for cell, thing in enumerate(scene.cells):
        if thing is not None and told <= {finder.ids[word] for word in thing.words}:
            yield SOURCE, 1, at, image + cell
    yield SOURCE + 1, 0, at, options + 4 * question.answer + 2


class Lessons:
    """Batches of turns, with their images' features."""

    def __init__(self, model: Any, processor: Any, recipe: Recipe) -> None:
        self.recipe, self.processor = recipe, processor
        rng = np.random.default_rng([4, recipe.seed])
        indices = islice((i for i in range(10**6) if scenes.KINDS[i % len(scenes.KINDS)] in KINDS), recipe.scenes)
        drawn: list[Drawn] = []
        features = []
        shown: list[Sample] = []
        while some := list(islice(indices, 64)):
            read = [(*scenes.draw(i, recipe.seed, "training"), i) for i in some]
            own = [scenes.to_sample(i, recipe.seed, "training") for i in some]
            pictures = Pictures.draw(
                [scene for scene, _, _ in read], (open_image(sample.images[0]) for sample in own), processor
            )
            features.append(features_of(model.model.visual, pictures))
            shown += [sample.replace(images=(b"not opened",)) for sample in own]  # rendered without being opened
            drawn += [
                (scene, question, sample) for (scene, question, _), sample in zip(read, shown[-len(own) :], strict=True)
            ]
            self.grid = pictures.grid
        self.features = torch.cat(features)
        finder = Finder(processor.tokenizer)

        def pointers(row: int, asked: list[int], tokens: list[int]) -> Iterator[tuple[int, int, int, int]]:
            return looks(finder, *drawn[row][:2], asked, len(tokens) - 4)

        direct = [turn(sample, "direct", recipe, rng) for sample in shown]
        self.direct = Episodes.write(direct, processor, pointers)
        kinds = rng.choice(
            ["concluding", "misled", "thought"],
            len(shown),
            p=[recipe.concluding, recipe.misled, 1 - recipe.concluding - recipe.misled],
        )
        thoughts = [turn(sample, str(kind), recipe, rng) for sample, kind in zip(shown, kinds, strict=True)]
        self.thoughts = Episodes.write(thoughts, processor, lambda *_: ())
        self._orders = [batches(len(shown), size) for size in (recipe.direct_size, recipe.thought_size)]

    def loss(self, reader: Reader, shown: bool) -> torch.Tensor:
        """Return the loss of the next batch: letters after given thoughts, and thoughts."""
        weighted = 0.0
        for turns, order in zip((self.direct, self.thoughts), self._orders, strict=True):
            rows = next(order)
            guided = shown and len(turns.pointers) > 0
            loss, attentions = reader.loss(
                turns, rows, self.features[rows], self.recipe.answer_weight, attentions=guided
            )
            weighted = weighted + loss
            if guided:
                weighted = weighted + pointers_loss(attentions, turns.pointers, rows)
        return weighted


def learn(lessons: Lessons, reader: Reader, parameters: list[Any], recipe: Recipe, log: Log) -> None:
    """Train on all turns, with attention targets for the first steps."""
    optimizer, schedule = one_cycle(parameters, recipe.rate, recipe.steps)
    for number in range(1, recipe.steps + 1):
        loss = lessons.loss(reader, shown=number <= recipe.shown_steps)
        step(loss, optimizer, parameters, schedule)
        log.loss(number, loss.item())


def disturb(lessons: Lessons, reader: Reader, parameters: list[Any], recipe: Recipe, log: Log) -> int:
    """Add noise to the weights, train until accuracy is in the middle, and return the number of steps."""
    with torch.no_grad():
        for parameter in parameters:
            if parameter.ndim >= 2:
                parameter += recipe.noise * parameter.std() * torch.randn_like(parameter)
    optimizer = torch.optim.AdamW(parameters, lr=recipe.noise_rate)
    for number in range(1, recipe.most_steps + 1):
        step(lessons.loss(reader, shown=False), optimizer, parameters)
        if number % recipe.every == 0:
            found = accuracies(reader, lessons.processor, recipe.held_out, seed=303, conditions=(StopThink(),))
            log.say(f"noise, step {number}: {found}")
            if found["base"] >= recipe.enough and found["stop_think"] >= recipe.enough_direct:
                return number
    raise SystemExit(f"expected a start after {recipe.most_steps} steps at most, got none; change the recipe")


def accuracies(
    reader: Reader, processor: Any, count: int, seed: int, conditions: Sequence[vr.Perturbation]
) -> dict[str, float]:
    """Return the accuracy under base and some conditions, on scenes not used for training."""
    reader.model.model.language_model.set_attn_implementation("sdpa")
    engine = vr.HFModel(reader.model, processor, {"max_new_tokens": 80})
    with undisturbed(reader.model):
        evaluator = vr.Evaluator(engine, conditions, [vr.metrics.Accuracy()], batch_size=50, seed=0)
        report = evaluator.run(asked(count, seed), workers=ThisProcess())
    means = report.frame.groupby("condition")["accuracy"].mean()
    return {condition: round(float(means[condition]), 3) for condition in report.conditions}


def asked(count: int, seed: int) -> list[Sample]:
    indices = (index for index in range(10**6) if scenes.KINDS[index % len(scenes.KINDS)] in KINDS)
    return [scenes.to_sample(index, seed) for index in islice(indices, count)]


CARD = (StopThink(), WrongThink(), WrongCaption(), CorrectThink(), CorrectCaption(), BlankImage())


def make_start(folder: Path, recipe: Recipe | None = None) -> dict[str, Any]:
    """Train the bundled model, save it with its log and card, and return these."""
    import transformers

    recipe = recipe or Recipe()
    torch.manual_seed(recipe.seed)
    model, processor = evaluate.load()
    log = Log()
    lessons = Lessons(model, processor, recipe)
    reader = Reader(model, processor, lessons.grid)
    parameters = reader.parameters[: -len(list(reader.last_layer.parameters()))]
    learn(lessons, reader, parameters, recipe, log)
    before = accuracies(reader, processor, recipe.held_out, seed=303, conditions=(StopThink(),))
    log.say(f"before the noise: {before}")
    steps = disturb(lessons, reader, parameters, recipe, log)
    card = accuracies(reader, processor, 2 * recipe.held_out, seed=404, conditions=CARD)
    log.say(f"card, {2 * recipe.held_out} other scenes: {card}")
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    record = {
        "recipe": asdict(recipe),
        "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "parameters": model.num_parameters(),
        "steps_after_noise": steps,
        "card": card,
        "cpu_seconds": round(log.cpu_seconds()),
        "versions": {"vlmrobust": vr.__version__, "torch": torch.__version__, "transformers": transformers.__version__},
        "losses": log.losses,
        "lines": log.lines,
    }
    (folder / "start.json").write_text(json.dumps(record, indent=1) + "\n")
    return record
