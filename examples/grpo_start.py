"""Make the start of `train_grpo.py`'s runs: a small model that answers from the image, with a thought and without one.

It goes on from the bundled model, which was taught nothing false and cannot answer without a thought. Here it learns
five kinds of turns, so that every finding of arXiv:2602.12506 could appear from there: thoughts as before; short ones
that conclude at once; given, empty ones, after which only the letter is left; given thoughts that conclude wrongly, the
letter that follows being the thought's or the true one; and captions, some of them false. For the first steps it is
shown where to look. It stops when base accuracy is in the middle, so that there is room above and below.

    OMP_NUM_THREADS=1 python examples/train_grpo.py start

On one machine the same versions and seed give the same weights; `start.json`, beside them, has recipe, log, versions
and the card's figures.
"""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import vlmrobust as vr
from vlmrobust.demo import evaluate, language, questions, shapes, vision
from vlmrobust.demo.pointers import ASKED, SOURCE, Finder, pointers_loss
from vlmrobust.demo.processor import IMAGE_TOKENS
from vlmrobust.types import Prompt, Sample

SHORT = ("", "Okay.", "Let me see.", "I look at it.", "This is it.", "Now the answer.", "I see.", "So.")
"""What the given, empty thoughts say; `stop_think`'s own words are none of them."""


@dataclass(frozen=True)
class Recipe:
    """Everything that the start depends on besides the code and the bundled weights."""

    seed: int = 0
    scenes: int = 12_000
    steps: int = 1600
    shown_steps: int = 500
    batch_size: int = 32
    rate: float = 1e-3
    answer_weight: float = 4.0
    direct: float = 0.4
    concluding: float = 0.15
    misled: float = 0.1
    misled_true: float = 0.35
    captioned: float = 0.3
    false_captions: float = 0.25
    every: int = 100
    held_out: int = 200


@dataclass(frozen=True)
class Turn:
    """A prompt, and what is learnt behind it."""

    prompt: Prompt
    given: str
    wanted: str
    kind: str


def turn(sample: Sample, recipe: Recipe, rng: np.random.Generator) -> Turn:
    """Draw what is learnt of a sample."""
    prompt, answer = Prompt.of(sample), sample.answer
    wrong = [option for option in range(len(sample.options)) if option != sample.answer]
    if rng.random() < recipe.captioned:
        false = rng.random() < recipe.false_captions
        texts = sample.texts["wrong_caption"][rng.choice(wrong)] if false else sample.texts["correct_caption"]
        prompt = prompt.replace(context=texts)
    drawn = rng.random()
    if drawn < recipe.direct:
        given, wanted, kind = f"<think>{rng.choice(SHORT)}</think>", "", "direct"
    elif drawn < recipe.direct + recipe.concluding:
        given, kind = "", "concluding"
        wanted = f"<think>So the answer is {sample.options[answer]}.</think>"
    elif drawn < recipe.direct + recipe.concluding + recipe.misled:
        asserted = int(rng.choice(wrong))
        given, wanted, kind = f"<think>{sample.texts['wrong_think'][asserted]}", "</think>", "misled"
        answer = answer if rng.random() < recipe.misled_true else asserted
    else:
        given, wanted, kind = "", f"<think>{sample.texts['correct_think']}</think>", "thought"
    return Turn(prompt, given, f"{wanted}<answer>{'ABCD'[answer]}</answer><|im_end|>", kind)


@dataclass
class Turns:
    """Turns as tokens: what is learnt (roles as in `language.Episodes`), and where to look for it."""

    ids: torch.Tensor
    roles: torch.Tensor
    pointers: torch.Tensor

    @classmethod
    def write(cls, drawn: list[language.Drawn], turns: list[Turn], processor: Any) -> "Turns":
        """Tokenize turns, prompts rendered as they are asked later."""

        def encoded(texts: list[str]) -> list[list[int]]:
            return processor.tokenizer(texts, add_special_tokens=False)["input_ids"]

        mark = language.IMAGE_MARK
        prompts = encoded([t.prompt.render(processor).replace(mark, mark * IMAGE_TOKENS) for t in turns])
        given, wanted = encoded([t.given for t in turns]), encoded([t.wanted for t in turns])
        length = max(len(p) + len(g) + len(w) for p, g, w in zip(prompts, given, wanted, strict=True))
        ids = torch.full((len(turns), length), processor.tokenizer.pad_token_id)
        roles = torch.zeros(len(turns), length, dtype=torch.long)
        finder, pointers = Finder(processor.tokenizer), []
        for row, (p, g, w) in enumerate(zip(prompts, given, wanted, strict=True)):
            end = len(p) + len(g) + len(w)
            ids[row, :end] = torch.tensor(p + g + w)
            roles[row, len(p) + len(g) : end] = language.DESCRIPTION
            roles[row, end - 3] = language.LETTER
            if turns[row].kind in ("thought", "concluding"):
                roles[row, end - 7] = language.CONCLUSION
            if turns[row].kind in ("direct", "concluding"):
                pointers += [(row, *pointer) for pointer in looks(finder, *drawn[row][:2], p, end, turns[row].kind)]
        return cls(ids, roles, torch.tensor(pointers))


def looks(
    finder: Finder, scene: shapes.Scene, question: questions.Question, prompt: list[int], end: int, kind: str
) -> list[tuple[int, int, int, int]]:
    """Return where to look for an answer in the image itself: the words asked about, their cells, and the letter."""
    image = prompt.index(finder.image_id)
    options = max(place for place, token in enumerate(prompt[:-1]) if token == finder.lettered)
    asked = [place for place in range(image + IMAGE_TOKENS, options) if prompt[place] in finder.naming]
    asked = asked[-{"position": 2, "relation": 4}.get(question.kind, 1) :]
    at = end - 4 if kind == "direct" else end - 8
    found = [(ASKED, head, at, place) for head, place in enumerate(asked)]
    told = {prompt[place] for place in asked}
    for cell, thing in enumerate(scene.cells):
        words = set() if thing is None else {finder.ids[word] for word in thing.words}
        if words and (told <= words if question.kind != "relation" else words <= told):
            found.append((SOURCE, cell % 4, at, image + cell))
    if kind == "direct":
        found.append((SOURCE + 1, 0, at, options + 4 * question.answer + 2))
    return found


def make_start(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Teach the bundled model, and save it with its log and card."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng([4, recipe.seed])
    model, processor = evaluate.load()
    began, cpu = time.perf_counter(), time.process_time()
    samples = [questions.to_sample(index, recipe.seed, "training") for index in range(recipe.scenes)]
    drawn = [(*questions.draw(index, recipe.seed, "training"), sample) for index, sample in enumerate(samples)]
    turns = Turns.write(drawn, [turn(sample, recipe, rng) for sample in samples], processor)
    pictures = vision.Pictures.draw(
        [scene for scene, _, _ in drawn], (evaluate.picture(sample) for sample in samples), processor
    )
    features = vision.features_of(model.model.visual, pictures)
    reader = language.Reader(model, processor, pictures.grid)
    parameters = reader.parameters[: -len(list(reader.last_layer.parameters()))]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=recipe.steps, pct_start=0.1)
    log: list[dict[str, Any]] = []
    batches = language._batches(len(samples), recipe.batch_size)
    for step in range(1, recipe.steps + 1):
        rows = next(batches)
        roles = turns.roles[rows]
        length = int((roles > 0).any(0).nonzero().max()) + 1
        ids, roles = turns.ids[rows, :length], roles[:, 1:length]
        shown = step <= recipe.shown_steps
        logits, attentions = reader.read(ids, roles > 0, features[rows], attentions=shown)
        chosen = roles[roles > 0]
        weights = torch.where(chosen == language.DESCRIPTION, 1.0, recipe.answer_weight)
        losses = functional.cross_entropy(logits, ids[:, 1:][roles > 0], reduction="none")
        loss = (losses * weights).sum() / weights.sum()
        guided = loss + pointers_loss(attentions, turns.pointers, rows) if shown else loss
        language._step(guided, optimizer, parameters)
        schedule.step()
        if step % recipe.every == 0:
            reader.model.model.language_model.set_attn_implementation("sdpa")
            figures = {c: accuracy(model, processor, recipe.held_out, c) for c in ("base", "stop_think")}
            log.append({"step": step, "loss": round(loss.item(), 4), **figures})
            print(json.dumps(log[-1] | {"cpu": round(time.process_time() - cpu)}), flush=True)
    return {}


def accuracy(model: Any, processor: Any, count: int, condition: str) -> float:
    """Return the accuracy on scenes that training never shows, and that no evaluation asks."""
    samples = vr.demo.samples(count, seed=303)
    prompts = [evaluate.ask(sample, condition) for sample in samples]
    texts = evaluate.complete(model, processor, prompts)
    answers = [vr.Response.parse(prompt, text).answer for prompt, text in zip(prompts, texts, strict=True)]
    return sum(a == s.answer for a, s in zip(answers, samples, strict=True)) / count
