"""Decode texts together: those that have ended leave the batch, and others join it.

    begun ──► join ──► ┌──────────────────────────┐
                       │ a row per text, one step  │ ──► ended: read, looked past, gone
    ask of a letter ─► │ for all of them at a time │
                       └──────────────────────────┘

What leaves: a row whose text has ended, before the next step; its cache goes with it (`reorder_cache`, which every kind
of cache layer has), and one of the last rows comes into its place.
What joins: rows of prompts that have gone through the model meanwhile, where the cache can take them in (`caches`);
elsewhere they wait until all that run have ended, and go on by themselves.
What rides along: where a letter of an ended text may go on as a word (`look_ahead`), its row takes part in one more
step, with that token in the letter's place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from . import caches
from .branches import Branches, Forward, joined
from .generation import Decoding, Written
from .look_ahead import Look, LookAhead
from .plain_engine import Begun, Stepping
from .probe import Head, Log, captured, note
from .reading import Draft, TextReader
from .rendered import Rendered
from .sampling import GumbelNoise
from .vocabulary import Member

__all__ = ["Ended", "Rolling"]


@dataclass(frozen=True, slots=True)
class Ended:
    """A text that has left.

    Attributes:
        position: where its prompt stood among all prompts.
        written: what was decoded.
        draft: the same, read.
    """

    position: int
    written: Written
    draft: Draft


@dataclass(slots=True)
class _Beside:
    """Texts that came in together: how many are still decoded, and how many steps those took that are not."""

    going: int
    steps: list[int] = field(default_factory=list)

    def spared(self, steps: int) -> int:
        """Note that one has ended after so many steps; return, with the last, how far all fell short of the longest."""
        self.going -= 1
        self.steps.append(steps)
        return 0 if self.going else len(self.steps) * max(self.steps) - sum(self.steps)


@dataclass(slots=True)
class _Row:
    position: int
    item: Rendered
    longest: int
    beside: "_Beside"
    noise: GumbelNoise | None
    log: Log = field(default_factory=Log)


@dataclass(slots=True)
class _Side:
    """Rows that go through the model together, and what their last step left."""

    rows: list[_Row]
    branches: Branches
    hidden: Tensor
    logits: Tensor


class Rolling:
    """Decodes texts.

    Args:
        model: a Hugging Face model.
        head: its LM head.
        decoding: how texts are decoded.
        letter_tokens: `(V,)` bool, tokens that read as an option letter.
        texts: reads what was decoded.
        ahead: looks past letters.
        stepping: says whether rows may be put into a cache beside others.

    Attributes:
        row_steps: rows that went through the model so far, step by step; those that ride along are counted.
        joined: rows that came in beside others.
        ended: how many texts have ended.
        dropped: row-steps that texts were spared which ended before the longest that came in with them.
    """

    def __init__(
        self,
        model: Any,
        head: Head,
        decoding: Decoding,
        letter_tokens: Tensor,
        texts: TextReader,
        ahead: LookAhead,
        stepping: Stepping,
    ) -> None:
        self.row_steps = 0
        self.joined = 0
        self.ended = 0
        self.dropped = 0
        self._model = model
        self._head = head
        self._decoding = decoding
        self._letter_tokens = letter_tokens
        self._texts = texts
        self._ahead = ahead
        self._stepping = stepping
        self._forward = Forward(model)
        self._sides: list[_Side] = []  # the first runs, the others wait
        self._most = 0

    @property
    def rows(self) -> int:
        """How many texts are being decoded, or wait for it in a cache of their own."""
        return sum(len(side.rows) for side in self._sides)

    @property
    def longest(self) -> int:
        """How many tokens the longest of them may take, prompt included."""
        return max((row.longest for side in self._sides for row in side.rows), default=0)

    def join(self, begun: Sequence[Begun], longest: int) -> None:
        """Let prompts in whose texts are to be decoded.

        Args:
            begun: the prompts; they are used up.
            longest: how many tokens each may take, prompt and text together.
        """
        beside = _Beside(sum(len(some.items) for some in begun))
        new = [self._side(some, longest, beside) for some in begun]
        running = self._sides[:1] if self._stepping.joins else []
        together = self._together([*running, *new]) if self._stepping.joins else None
        if together is None:
            self._sides += new
        else:
            self._sides[: len(running)] = [together]
            self.joined += sum(len(side.rows) for side in new) if running else 0
        for side in self._sides:
            caches.bound(side.branches.cache, self.longest)
        self._most = max(self._most, self.rows)

    def _side(self, begun: Begun, longest: int, beside: "_Beside") -> "_Side":
        noise = self._decoding.noise([item.prompt for item in begun.items.values()], begun.logits.device)
        rows = [
            _Row(position, item, longest, beside, noise[index] if noise else None)
            for index, (position, item) in enumerate(begun.items.items())
        ]
        return _Side(rows, begun.branches, begun.hidden, begun.logits)

    @staticmethod
    def _together(sides: "Sequence[_Side]") -> "_Side | None":
        """Put rows into one cache, without padding between or behind tokens; None if their caches cannot."""
        if len(sides) == 1 and bool(sides[0].branches.mask[:, -1].all()):
            return sides[0]
        branches = joined([side.branches for side in sides])
        if branches is None:
            return None
        hidden, logits = torch.cat([side.hidden for side in sides]), torch.cat([side.logits for side in sides])
        return _Side([row for side in sides for row in side.rows], branches, hidden, logits)

    def step(self) -> list[Ended]:
        """Decode one more token of every text that runs, and return those that have ended with it."""
        side = self._sides[0]
        noise = [row.noise for row in side.rows if row.noise is not None]
        logits = side.logits[:, -1]
        tokens = self._decoding.choose(logits, noise)
        logs = [row.log for row in side.rows]
        note(logs, tokens, side.hidden[:, -1], logits, self._head, self._letter_tokens)
        ended = [place for place, log in enumerate(logs) if self._decoding.ended(log)]
        if not ended:
            side.hidden, side.logits = self._through(side.branches, tokens[:, None])
            return []
        texts = [self._decoding.written(logs[place]) for place in ended]
        drafts = self._texts.drafts([side.rows[place].item for place in ended], texts)
        going = _closed_up(len(side.rows), ended)
        self._go_on(side, tokens, going, dict(zip(ended, drafts, strict=True)))
        left = [
            Ended(side.rows[place].position, written, draft)
            for place, written, draft in zip(ended, texts, drafts, strict=True)
        ]
        self.ended += len(ended)
        self.dropped += sum(side.rows[place].beside.spared(len(logs[place].tokens) - 1) for place in ended)
        side.rows = [side.rows[place] for place in going]
        if not side.rows:
            self._sides.pop(0)
        for draft in drafts:
            if draft.look is not None:
                self._ahead.look_anew(draft.look)  # what the cache could not be taken back to
        return left

    def _go_on(self, side: _Side, tokens: Tensor, going: Sequence[int], drafts: dict[int, Draft]) -> None:
        """Let the rows that have ended leave, and run the others; letters of the former ride along."""
        asked = [
            (place, draft.look, member)
            for place, draft in drafts.items()
            if draft.look is not None
            for member in self._ahead.near(draft.look, side.branches)
        ]
        room = max(1, self._most - (self.rows - len(drafts)))
        while len(asked) > room:
            self._look(side.branches.selected(self._places(side, [], asked[:room])), asked[:room])
            asked = asked[room:]
        if not going and not asked:
            return
        side.branches.select(self._places(side, going, asked))
        if not going:
            self._look(side.branches, asked)
            return
        new = tokens[going][:, None]
        if asked:
            side.branches.rewind(self._backs(side.branches, len(going), asked))
            new = torch.cat([new, new.new_tensor([[member.token] for _, _, member in asked])])
        hidden, logits = self._through(side.branches, new)
        side.hidden, side.logits = hidden[: len(going)], logits[: len(going)]
        if asked:
            after = self._head.rows_at_once(hidden[len(going) :, 0], logits[len(going) :, 0])
            self._note(asked, after)
            side.branches.select(torch.arange(len(going), device=new.device))

    def _look(self, branches: Branches, asked: "Sequence[_Ask]") -> None:
        """Look past letters with nothing beside them."""
        branches.rewind(self._backs(branches, 0, asked))
        tokens = branches.mask.new_tensor([[member.token] for _, _, member in asked])
        hidden, logits = self._through(branches, tokens)
        self._note(asked, self._head.rows_at_once(hidden[:, 0], logits[:, 0]))

    def _note(self, asked: "Sequence[_Ask]", after: Tensor) -> None:
        self._ahead.steps += len(asked)
        self._ahead.note([(look, member) for _, look, member in asked], after)

    def _through(self, branches: Branches, tokens: Tensor) -> tuple[Tensor, Tensor]:
        with captured(self._model, self._head) as seen:
            self._forward(branches, tokens, torch.ones_like(tokens))
        self.row_steps += len(tokens)
        return seen.last(1)

    @staticmethod
    def _places(side: _Side, going: Sequence[int], asked: "Sequence[_Ask]") -> Tensor:
        return torch.tensor([*going, *(place for place, _, _ in asked)], device=side.branches.mask.device)

    @staticmethod
    def _backs(branches: Branches, going: int, asked: "Sequence[_Ask]") -> Tensor:
        backs = [0] * going + [member.back for _, _, member in asked]
        return torch.tensor(backs, device=branches.mask.device)


def _closed_up(count: int, ended: Sequence[int]) -> list[int]:
    """Return the rows that go on, of so many: the last in the places of those that have ended, so that few move."""
    going = [place for place in range(count) if place not in set(ended)]
    order = list(range(len(going)))
    free = [place for place in ended if place < len(going)]
    for place, row in zip(free, going[len(going) - len(free) :], strict=True):
        order[place] = row
    return order


_Ask = tuple[int, Look, Member]  # the row of a text that has ended, and which of its letters is looked past
