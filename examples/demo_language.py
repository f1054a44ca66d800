"""Train the demo model's language model: tokenized turns, attention targets, and training steps.

Used by `train_demo.py` and `grpo_start.py`. Looking up words takes several attention heads that are useless without
each other, so a small model learns them late or never. For the first steps, a few heads are therefore given attention
targets: those of the first layer the preceding tokens, one of the second layer the words that the question asks
about, one of the third layer the source of the next word (a cell of the image, a word of the description, an
option). Afterwards their attention is free.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from vlmrobust.demo import scenes
from vlmrobust.types import Prompt, Sample

OPTION_WORDS = (*scenes.COLOURS, *scenes.SHAPES, *scenes.NUMBERS, *scenes.POSITIONS, *scenes.RELATIONS)
IMAGE_SIDE = 56
"""Side of the resized images in pixels: one language-model token for each cell of a scene."""
IMAGE_TOKENS = (IMAGE_SIDE // 28) ** 2
IMAGE_MARK = "<|image_pad|>"
DESCRIPTION, CONCLUSION, LETTER = 1, 2, 3
Drawn = tuple[scenes.Scene, scenes.Question, Sample]
Pointer = tuple[int, int, int, int]
"""Layer, head, query token, and the token that it should attend to."""

OFFSETS = (1, 2, 3)
"""How many tokens back the first heads of the first layer attend."""
ASKED, SOURCE = 1, 2
"""The layers that attend to what the question asks about, and to the source of the next word."""


@dataclass(frozen=True)
class Turn:
    """A prompt, the target text after it, and the given text between the two."""

    prompt: Prompt
    wanted: str
    given: str = ""
    concludes: bool = True
    """whether the target text names the answer before its letter"""


@dataclass(frozen=True)
class Episodes:
    """Tokenized turns."""

    ids: torch.Tensor
    """(episodes, tokens), padded on the right"""
    roles: torch.Tensor
    """(episodes, tokens): 0 for tokens without loss, else `DESCRIPTION`, `CONCLUSION` or `LETTER`"""
    pointers: torch.Tensor
    """(pointers, 5): episode, layer, head, query token, and the token that it should attend to"""

    @classmethod
    def write(
        cls,
        turns: Sequence[Turn],
        processor: Any,
        pointers: Callable[[int, list[int], list[int]], Iterable[Pointer]],
    ) -> "Episodes":
        """Render prompts with the library, exactly as in an evaluation, and tokenize them with the target texts.

        Args:
            turns: prompts and target texts.
            processor: renders and tokenizes.
            pointers: attention targets, from a row, its prompt's tokens and all of its tokens.
        """

        def encoded(texts: list[str]) -> list[list[int]]:
            return processor.tokenizer(texts, add_special_tokens=False)["input_ids"]

        image = IMAGE_MARK * IMAGE_TOKENS
        asked = encoded([turn.prompt.render(processor).replace(IMAGE_MARK, image) for turn in turns])
        given, wanted = encoded([turn.given for turn in turns]), encoded([turn.wanted for turn in turns])
        tokens = [[*a, *g, *w] for a, g, w in zip(asked, given, wanted, strict=True)]
        ids = torch.full((len(turns), max(map(len, tokens))), processor.tokenizer.pad_token_id)
        roles = torch.zeros_like(ids)
        found: list[tuple[int, ...]] = []
        for row, (turn, of_row) in enumerate(zip(turns, tokens, strict=True)):
            end = len(of_row)
            ids[row, :end] = torch.tensor(of_row)
            roles[row, end - len(wanted[row]) : end] = DESCRIPTION
            # … is|red|.|</think>|<answer>|B|</answer>|<|im_end|>
            roles[row, end - 3] = LETTER
            if turn.concludes:
                roles[row, end - 7] = CONCLUSION
            found += [(row, *pointer) for pointer in pointers(row, asked[row], of_row)]
        return cls(ids, roles, torch.tensor(found))


class Reader:
    """Run the language model on episodes with precomputed image features."""

    def __init__(self, model: Any, processor: Any, grid: torch.Tensor) -> None:
        self.model = model
        self.image_id = processor.tokenizer.convert_tokens_to_ids(IMAGE_MARK)
        self.grid = grid
        self.last_layer: nn.Linear = model.model.visual.merger.mlp[2]
        visual = {id(parameter) for parameter in model.model.visual.parameters()}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in visual]
        self.parameters: list[nn.Parameter] = [*rest, *self.last_layer.parameters()]

    def positions(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the M-RoPE positions of one episode for all: the image is at the same position in each."""
        one = ids[:1]
        marks = (one == self.image_id).int()
        found, _ = self.model.model.get_rope_index(one, mm_token_type_ids=marks, image_grid_thw=self.grid[None])
        return found.expand(3, len(ids), ids.shape[1])

    def read(
        self, ids: torch.Tensor, chosen: torch.Tensor, features: torch.Tensor, *, attentions: bool = False
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Predict the chosen tokens, (episodes, tokens - 1), from the tokens before them.

        Returns:
            Their logits, and the attention of each layer, (episodes, heads, tokens, tokens), if requested.
        """
        language_model = self.model.model.language_model
        language_model.set_attn_implementation("eager" if attentions else "sdpa")
        embedded = self.model.get_input_embeddings()(ids)
        embedded = embedded.masked_scatter((ids == self.image_id)[..., None], self.last_layer(features))
        output = language_model(
            inputs_embeds=embedded, position_ids=self.positions(ids), use_cache=False, output_attentions=attentions
        )
        return self.model.lm_head(output.last_hidden_state[:, :-1][chosen]), output.attentions or ()

    def loss(
        self, episodes: Episodes, rows: torch.Tensor, features: torch.Tensor, weight: float, *, attentions: bool = False
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Return the mean loss over some episodes' tokens, and `read`'s attention.

        Conclusions and letters count `weight` times as much as other tokens.
        """
        roles = episodes.roles[rows]
        length = int((roles > 0).any(0).nonzero().max()) + 1
        ids, roles = episodes.ids[rows, :length], roles[:, 1:length]
        logits, looked = self.read(ids, roles > 0, features, attentions=attentions)
        weights = torch.where(roles[roles > 0] == DESCRIPTION, 1.0, weight)
        losses = functional.cross_entropy(logits, ids[:, 1:][roles > 0], reduction="none")
        return (losses * weights).sum() / weights.sum(), looked


class Finder:
    """Find the pointers of an episode from its scene and question."""

    def __init__(self, tokenizer: Any) -> None:
        self.image_id: int = tokenizer.convert_tokens_to_ids(IMAGE_MARK)
        names = (*scenes.COLOURS, *scenes.SHAPES)
        self.ids: dict[str, int] = {
            word: tokenizer.encode(f" {word}", add_special_tokens=False)[0] for word in OPTION_WORDS
        }
        self.lettered: int = tokenizer.encode("A", add_special_tokens=False)[0]
        self.naming = {self.ids[word] for word in names}

    def pointers(
        self, scene: scenes.Scene, question: scenes.Question, prompt: list[int], tokens: list[int]
    ) -> list[Pointer]:
        """Return the pointers for a prompt and all its tokens, with the answer."""
        image = prompt.index(self.image_id)
        options = max(i for i, token in enumerate(prompt[:-1]) if token == self.lettered)
        # A caption may name the same words, so take the last ones before the options: those of the question.
        asked = [i for i in range(image + IMAGE_TOKENS, options) if prompt[i] in self.naming]
        asked = asked[-{"position": 2, "relation": 4}.get(question.kind, 1) :]
        letters = [options + 4 * i + 2 for i in range(len(question.options))]  # A|.|red|newline

        found: list[Pointer] = []
        at = len(prompt) + 3  # <think>|I|see
        said: dict[tuple[int, str], int] = {}
        for cell, (thing, position) in enumerate(zip(scene.cells, scenes.POSITIONS, strict=True)):
            words = 1 if thing is None else 3  # nothing; or a|red|circle
            found += [(SOURCE, 0, at - 1 + i, image + cell) for i in range(words)]
            if thing is not None:
                said |= {(cell, thing.colour): at + 1, (cell, thing.shape): at + 2}
            said[cell, position] = at + words
            at += words + 2  # the position, and a comma or full stop
        places = []
        for number, thing in enumerate(question.compared):  # First|the|red|circle|is|northwest|,|then|the|…
            cell = scene.cells.index(thing)
            found += [(SOURCE, 0, at + 1 + i, asked[2 * number + i]) for i in range(2)]
            found.append((SOURCE, 0, at + 4, said[cell, scenes.POSITIONS[cell]]))
            places.append(at + 5)
            at += 7
        if question.counted:  # I|count|none|northwest|,|one|northeast|,
            for cell, position in enumerate(scenes.POSITIONS):
                # A position comes after its cell's words, so the cell can be compared with the counted thing there.
                place, thing = said[cell, position], scene.cells[cell]
                matches = thing is not None and question.counted in thing.words
                found.append((ASKED, 0, place, asked[0] if matches else place))
                found.append((SOURCE, 0, at + 1 + 3 * cell, place))
            places.append(at + 2 + 3 * 3)
        concludes, answers = len(tokens) - 8, len(tokens) - 4
        found += [(ASKED, head, concludes, place) for head, place in enumerate(asked[:2])]
        found += [(SOURCE, head, concludes, place) for head, place in enumerate(places)]
        if question.kind in ("colour", "shape", "position"):
            told = {tokens[place] for place in asked}
            right = question.options[question.answer]
            for (cell, word), place in said.items():
                thing = scene.cells[cell]
                if word == right and thing is not None and told <= {self.ids[w] for w in thing.words}:
                    # A colour comes before its shape, so only from the shape on is it known to belong to it.
                    found.append((SOURCE, 0, concludes, place + (question.kind == "colour")))
        # A true caption names the right option; nothing else before the options does.
        right_id = self.ids[question.options[question.answer]]
        found += [(SOURCE, 2, concludes, i) for i in range(image, options) if prompt[i] == right_id]
        found.append((SOURCE, 0, answers, letters[question.answer]))
        return found


def pointers_loss(attentions: tuple[torch.Tensor, ...], pointers: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return the mean negative log of the attention on the targets of these episodes."""
    place = torch.full((int(torch.cat([pointers[:, 0], rows]).max()) + 1,), -1)
    place[rows] = torch.arange(len(rows))
    of_batch = pointers[place[pointers[:, 0]] >= 0]
    losses = []
    for layer in of_batch[:, 1].unique().tolist():
        row, _, head, looks, at = of_batch[of_batch[:, 1] == layer].unbind(1)
        losses.append(-(attentions[layer][place[row], head, looks, at] + 1e-6).log())
    return torch.cat(losses).mean()


def offsets_loss(attentions: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return the same for the heads of the first layer that attend to the preceding tokens."""
    losses = [
        -(attentions[0][:, head].diagonal(-offset, dim1=1, dim2=2) + 1e-6).log().mean()
        for head, offset in enumerate(OFFSETS)
    ]
    return torch.stack(losses).mean()


def one_cycle(
    parameters: Sequence[nn.Parameter], rate: float, steps: int, betas: tuple[float, float] = (0.9, 0.98)
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW and a one-cycle learning-rate schedule."""
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01, betas=betas)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)


def step(
    loss: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    if schedule is not None:
        schedule.step()


def batches(count: int, batch_size: int) -> Iterator[torch.Tensor]:
    """Yield batches of rows endlessly, in a new order in each epoch."""
    while True:
        yield from torch.randperm(count).split(batch_size)


def learn_to_answer(
    reader: Reader,
    stages: list[tuple[Episodes, int, float]],
    features: torch.Tensor,
    batch_size: int,
    rate: float,
    weight: float,
    watch: Callable[[int, float], None],
) -> None:
    """Train the model to describe every cell, conclude, and give the letter.

    Args:
        reader: Runs the model.
        stages: Episodes, the number of steps on them, and the weight of the attention loss; run one after the
            other under one learning-rate schedule.
        features: Features of the episodes' images.
        batch_size: Episodes per step.
        rate: The highest learning rate.
        weight: How much more the conclusion and the letter count than other tokens.
        watch: Called with each step and its loss.
    """
    total = sum(steps for _, steps, _ in stages)
    optimizer, schedule = one_cycle(reader.parameters, rate, total)
    done = 0
    for episodes, steps, guidance in stages:
        rows = batches(len(episodes.ids), batch_size)
        for chosen in islice(rows, steps):
            loss, attentions = reader.loss(episodes, chosen, features[chosen], weight, attentions=guidance > 0)
            guided = loss
            if guidance > 0:
                looks = pointers_loss(attentions, episodes.pointers, chosen)
                guided = loss + guidance * (looks + offsets_loss(attentions))
            step(guided, optimizer, reader.parameters, schedule)
            done += 1
            watch(done, loss.item())


class Log:
    """Log lines with the seconds since the start; printed, and saved with the weights."""

    def __init__(self) -> None:
        self.started, self.cpu_started = time.perf_counter(), time.process_time()
        self.lines: list[str] = []
        self.losses: list[tuple[int, float]] = []
        self._recent: list[float] = []

    def say(self, text: str) -> None:
        """Log a line."""
        line = f"{self.seconds():7.0f} s, {self.cpu_seconds():7.0f} s CPU: {text}"
        self.lines.append(line)
        print(line, flush=True)

    def loss(self, step: int, value: float, every: int = 50) -> None:
        """Log the mean loss at regular intervals."""
        self._recent.append(value)
        if step % every == 0:
            self.losses.append((step, round(sum(self._recent) / len(self._recent), 4)))
            self.say(f"step {step}: loss {self.losses[-1][1]}")
            self._recent = []

    def seconds(self) -> float:
        """Return the wall time since the start."""
        return time.perf_counter() - self.started

    def cpu_seconds(self) -> float:
        """Return the CPU time of this process since the start."""
        return time.process_time() - self.cpu_started
