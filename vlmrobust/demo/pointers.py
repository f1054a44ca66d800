"""Where the demo model's attention should go while it learns to answer.

Looking words up takes several heads that are of no use one without the other, so a small model finds them late or
never. For the first steps a few heads are therefore shown what to look at: those of the first layer the tokens just
before, one of the second layer the words that the question asks about, one of the third layer what the next word is
copied from: a cell of the image, a word of the description, an option. Afterwards they are free.
"""

from __future__ import annotations

from typing import Any

import torch

from vlmrobust.demo import questions, shapes
from vlmrobust.demo.processor import IMAGE_TOKENS

Pointer = tuple[int, int, int, int]
"""Layer, head, token that looks, token that it should look at."""

OFFSETS = (1, 2, 3)
"""How far back the first heads of the first layer look."""
ASKED, SOURCE = 1, 2
"""The layers that look at what is asked about, and at what the next word is copied from."""


class Finder:
    """Finds the pointers of an episode from its scene and question."""

    def __init__(self, tokenizer: Any) -> None:
        self.image_id: int = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        names = (*shapes.COLOURS, *shapes.SHAPES)
        self.ids: dict[str, int] = {
            word: tokenizer.encode(f" {word}", add_special_tokens=False)[0]
            for word in (*names, *shapes.NUMBERS, *shapes.POSITIONS, *shapes.RELATIONS)
        }
        self.lettered: int = tokenizer.encode("A", add_special_tokens=False)[0]
        self.naming = {self.ids[word] for word in names}

    def pointers(
        self, scene: shapes.Scene, question: questions.Question, prompt: list[int], tokens: list[int]
    ) -> list[Pointer]:
        """The pointers for a prompt and all its tokens, with the answer."""
        image = prompt.index(self.image_id)
        options = max(i for i, token in enumerate(prompt[:-1]) if token == self.lettered)
        # Behind the question a caption would repeat its words; the last ones before the options are the question's.
        asked = [i for i in range(image + IMAGE_TOKENS, options) if prompt[i] in self.naming]
        asked = asked[-{"position": 2, "relation": 4}.get(question.kind, 1) :]
        letters = [options + 4 * i + 2 for i in range(len(question.options))]  # A|.|red|newline

        found: list[Pointer] = []
        at = len(prompt) + 3  # <think>|I|see
        said: dict[tuple[int, str], int] = {}
        for cell, (thing, position) in enumerate(zip(scene.cells, shapes.POSITIONS, strict=True)):
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
            found.append((SOURCE, 0, at + 4, said[cell, shapes.POSITIONS[cell]]))
            places.append(at + 5)
            at += 7
        if question.counted:  # I|count|none|northwest|,|one|northeast|,
            for cell, position in enumerate(shapes.POSITIONS):
                # A position stands behind its cell's words, so there the cell can be compared with what is counted.
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
                    # A colour stands before its shape, so only from the shape on is it known to belong to it.
                    found.append((SOURCE, 0, concludes, place + (question.kind == "colour")))
        # A true caption names the right option; nothing else before the options does.
        right_id = self.ids[question.options[question.answer]]
        found += [(SOURCE, 2, concludes, i) for i in range(image, options) if prompt[i] == right_id]
        found.append((SOURCE, 0, answers, letters[question.answer]))
        return found


def pointers_loss(attentions: tuple[torch.Tensor, ...], pointers: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Mean negative logarithm of the attention that goes where the pointers of these episodes point."""
    place = torch.full((int(torch.cat([pointers[:, 0], rows]).max()) + 1,), -1)
    place[rows] = torch.arange(len(rows))
    of_batch = pointers[place[pointers[:, 0]] >= 0]
    losses = []
    for layer in of_batch[:, 1].unique().tolist():
        row, _, head, looks, at = of_batch[of_batch[:, 1] == layer].unbind(1)
        losses.append(-(attentions[layer][place[row], head, looks, at] + 1e-6).log())
    return torch.cat(losses).mean()


def offsets_loss(attentions: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The same for the heads of the first layer that look at the tokens just before."""
    losses = [
        -(attentions[0][:, head].diagonal(-offset, dim1=1, dim2=2) + 1e-6).log().mean()
        for head, offset in enumerate(OFFSETS)
    ]
    return torch.stack(losses).mean()
