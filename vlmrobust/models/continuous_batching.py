"""Decode texts by continuous batching: finished texts leave the batch, and others join it.

    prefilled ──► join ──► ┌──────────────────────────┐
                           │ a row per text, one step │ ──► finished: read, looked past, removed
    letter queries ──────► │ for all of them at a time│
                           └──────────────────────────┘

Leaving: a finished row leaves before the next step; `reorder_cache`, which every kind of cache layer has, removes its
cache, and one of the last rows takes its place.
Joining: rows of prompts prefilled meanwhile, if the cache can take them in (`caches`); otherwise they wait until all
running rows have finished, and run separately.
Letter queries: if a letter of a finished text may continue as a word (`look_ahead`), its row takes part in one more
step, with that token in the letter's place.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .caches import Branches, allows_gaps, bound, joined
from .encoding import Rendered
from .generation import GumbelNoise
from .letter_tokens import Member
from .look_ahead import Look, LookAhead
from .plain_engine import ModelRunner, PrefilledPrompts
from .probe import DecodingLog, note
from .response_building import PendingResponse, TextReader

__all__ = ["ContinuousBatch", "Stepping"]


class Stepping:
    """Tests once whether texts can be decoded step by step from a cache, and rows of several caches be combined.

    Args:
        runner: runs the model.
        ahead: compares a cache with the model's own `generate`.

    Attributes:
        works: whether a step from the cache agrees with `generate`; None = not compared yet.
        joins: whether it also does from a cache combined from two.
        takes_uneven: whether prompts of different lengths can be decoded from one cache: combined, or with gaps.
    """

    def __init__(self, runner: ModelRunner, ahead: LookAhead) -> None:
        self.works: bool | None = None if runner.decoding.is_token_by_token else False
        self.joins = False
        self.takes_uneven = False
        self._config = runner.config
        self._ahead = ahead
        self._token = int(runner.letter_tokens.int().argmax())  # any token, to append to the compared prompt
        # Chunked attention depends on a token's column.
        self._by_column = "chunked_attention" in (getattr(self._config, "layer_types", None) or [])

    def fits(self, item: Rendered) -> bool:
        """Return whether texts can be decoded step by step; decided for the model by the first prompt."""
        if self._ahead.works is False:
            return False
        if self.works is None:
            self.works = self._compared(item)
        return self.works

    def _compared(self, item: Rendered) -> bool:
        branches = self._ahead.prefilled(item)
        if branches is None:
            return False
        one = torch.zeros(1, dtype=torch.int64, device=branches.mask.device)
        token = torch.full((1, 1), self._token, device=one.device)

        def alone() -> Tensor:
            return self._ahead.after(branches.selected(one), token)

        def beside_a_longer_one() -> Tensor:
            longer, same = branches.selected(one), branches.selected(one)
            self._ahead.after(longer, token)
            both = joined([longer, same])
            if both is None:
                raise NotImplementedError("its cache takes no rows in")
            return self._ahead.after(both, token.expand(2, 1))[1:]

        self.joins = not self._by_column and self._ahead.difference(item, self._token, beside_a_longer_one) is None
        self.takes_uneven = self.joins or allows_gaps(self._config, sys.maxsize)
        reason = None if self.joins else self._ahead.difference(item, self._token, alone)
        if self._ahead.works is None:
            self._ahead.believe(reason)
        return reason is None


@dataclass(slots=True)
class _Cohort:
    """Texts that joined together: the number still running, and the steps of those that have finished."""

    going: int
    steps: list[int] = field(default_factory=list)

    def finish(self, steps: int) -> int:
        """Record that one finished after some steps; for the last, return the total shortfall from the longest."""
        self.going -= 1
        self.steps.append(steps)
        return 0 if self.going else len(self.steps) * max(self.steps) - sum(self.steps)


@dataclass(slots=True)
class _Row:
    position: int
    item: Rendered
    longest: int
    cohort: "_Cohort"
    noise: GumbelNoise | None
    log: DecodingLog = field(default_factory=DecodingLog)


@dataclass(slots=True)
class _Group:
    """Rows that run together, and the result of their last step."""

    rows: list[_Row]
    branches: Branches
    hidden: Tensor
    logits: Tensor


class ContinuousBatch:
    """Decodes texts by continuous batching.

    Args:
        runner: runs the model.
        texts: reads decoded texts.
        ahead: looks past letters.
        stepping: whether rows of several caches can be combined.

    Attributes:
        row_steps: row-steps so far, including letter queries.
        joined: rows that joined running ones.
        ended: number of finished texts.
        dropped: row-steps saved by texts that finished before the longest of those that joined with them.
    """

    def __init__(self, runner: ModelRunner, texts: TextReader, ahead: LookAhead, stepping: Stepping) -> None:
        self.row_steps = 0
        self.joined = 0
        self.ended = 0
        self.dropped = 0
        self._runner = runner
        self._texts = texts
        self._ahead = ahead
        self._stepping = stepping
        self._groups: list[_Group] = []  # the first runs, the others wait
        self._most = 0

    @property
    def rows(self) -> int:
        """The number of texts being decoded or waiting."""
        return sum(len(group.rows) for group in self._groups)

    @property
    def longest(self) -> int:
        """The maximum number of tokens of any of them, prompt included."""
        return max((row.longest for group in self._groups for row in group.rows), default=0)

    def join(self, prefilled: Sequence[PrefilledPrompts], longest: int) -> None:
        """Add prompts whose texts should be decoded.

        Args:
            prefilled: the prompts; they are consumed.
            longest: maximum number of tokens of each, prompt and text together.
        """
        cohort = _Cohort(sum(len(some.items) for some in prefilled))
        new = [self._group(some, longest, cohort) for some in prefilled]
        running = self._groups[:1] if self._stepping.joins else []
        together = self._together([*running, *new]) if self._stepping.joins else None
        if together is None:
            self._groups += new
        else:
            self._groups[: len(running)] = [together]
            self.joined += sum(len(group.rows) for group in new) if running else 0
        for group in self._groups:
            bound(group.branches.cache, self.longest)
        self._most = max(self._most, self.rows)

    def _group(self, prefilled: PrefilledPrompts, longest: int, cohort: "_Cohort") -> "_Group":
        noise = self._runner.decoding.noise([item.prompt for item in prefilled.items.values()], prefilled.logits.device)
        rows = [
            _Row(position, item, longest, cohort, noise[index] if noise else None)
            for index, (position, item) in enumerate(prefilled.items.items())
        ]
        return _Group(rows, prefilled.branches, prefilled.hidden, prefilled.logits)

    @staticmethod
    def _together(groups: "Sequence[_Group]") -> "_Group | None":
        """Put rows into one cache, without padding between or after tokens; None = their caches do not support it."""
        if len(groups) == 1 and bool(groups[0].branches.mask[:, -1].all()):
            return groups[0]
        branches = joined([group.branches for group in groups])
        if branches is None:
            return None
        hidden, logits = torch.cat([group.hidden for group in groups]), torch.cat([group.logits for group in groups])
        return _Group([row for group in groups for row in group.rows], branches, hidden, logits)

    def step(self) -> list[tuple[int, PendingResponse]]:
        """Decode one more token of every running text; return position and text of the prompts that it finished."""
        group, decoding = self._groups[0], self._runner.decoding
        noise = [row.noise for row in group.rows if row.noise is not None]
        logits = group.logits[:, -1]
        tokens = decoding.choose(logits, noise)
        logs = [row.log for row in group.rows]
        note(logs, tokens, group.hidden[:, -1], logits, self._runner.head, self._runner.letter_tokens)
        ended = [place for place, log in enumerate(logs) if decoding.ended(log)]
        if not ended:
            group.hidden, group.logits = self._through(group.branches, tokens[:, None])
            return []
        texts = [decoding.written(logs[place]) for place in ended]
        pending = self._texts.pending([group.rows[place].item for place in ended], texts)
        going = _compacted(len(group.rows), ended)
        self._advance(group, tokens, going, dict(zip(ended, pending, strict=True)))
        left = [(group.rows[place].position, one) for place, one in zip(ended, pending, strict=True)]
        self.ended += len(ended)
        self.dropped += sum(group.rows[place].cohort.finish(len(logs[place].tokens) - 1) for place in ended)
        group.rows = [group.rows[place] for place in going]
        if not group.rows:
            self._groups.pop(0)
        for one in pending:
            if one.look is not None:
                self._ahead.look_with_new_cache(one.look)  # letters to which the cache could not be rewound
        return left

    def _advance(
        self, group: _Group, tokens: Tensor, going: Sequence[int], pending: Mapping[int, PendingResponse]
    ) -> None:
        """Remove finished rows and run the others, together with letter queries of the finished ones."""
        queries = [
            (place, one.look, member)
            for place, one in pending.items()
            if one.look is not None
            for member in self._ahead.near(one.look, group.branches)
        ]
        room = max(1, self._most - (self.rows - len(pending)))
        while len(queries) > room:
            self._look(group.branches.selected(self._places(group, [], queries[:room])), queries[:room])
            queries = queries[room:]
        if not going and not queries:
            return
        group.branches.select(self._places(group, going, queries))
        if not going:
            self._look(group.branches, queries)
            return
        new = tokens[going][:, None]
        if queries:
            group.branches.rewind(self._backs(group.branches, len(going), queries))
            new = torch.cat([new, new.new_tensor([[member.token] for _, _, member in queries])])
        hidden, logits = self._through(group.branches, new)
        group.hidden, group.logits = hidden[: len(going)], logits[: len(going)]
        if queries:
            after = self._runner.head.rows_at_once(hidden[len(going) :, 0], logits[len(going) :, 0])
            self._note(queries, after)
            group.branches.select(torch.arange(len(going), device=new.device))

    def _look(self, branches: Branches, queries: "Sequence[_LetterQuery]") -> None:
        """Look past letters in a pass of their own."""
        branches.rewind(self._backs(branches, 0, queries))
        tokens = branches.mask.new_tensor([[member.token] for _, _, member in queries])
        hidden, logits = self._through(branches, tokens)
        self._note(queries, self._runner.head.rows_at_once(hidden[:, 0], logits[:, 0]))

    def _note(self, queries: "Sequence[_LetterQuery]", after: Tensor) -> None:
        self._ahead.steps += len(queries)
        self._ahead.note([(look, member) for _, look, member in queries], after)

    def _through(self, branches: Branches, tokens: Tensor) -> tuple[Tensor, Tensor]:
        self.row_steps += len(tokens)
        return self._runner.append(branches, tokens)

    @staticmethod
    def _places(group: _Group, going: Sequence[int], queries: "Sequence[_LetterQuery]") -> Tensor:
        return torch.tensor([*going, *(place for place, _, _ in queries)], device=group.branches.mask.device)

    @staticmethod
    def _backs(branches: Branches, going: int, queries: "Sequence[_LetterQuery]") -> Tensor:
        backs = [0] * going + [member.back for _, _, member in queries]
        return torch.tensor(backs, device=branches.mask.device)


def _compacted(count: int, ended: Sequence[int]) -> list[int]:
    """Return the order of the remaining rows: the last ones fill the places of finished ones, so that few move."""
    going = [place for place in range(count) if place not in set(ended)]
    order = list(range(len(going)))
    free = [place for place in ended if place < len(going)]
    for place, row in zip(free, going[len(going) - len(free) :], strict=True):
        order[place] = row
    return order


_LetterQuery = tuple[int, Look, Member]  # the row of a finished text, and the letter to look past
