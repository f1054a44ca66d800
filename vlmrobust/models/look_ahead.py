"""Look one token ahead: does a letter end, or does it begin a word?

    P(letter) = Σ over its tokens t of P(t) · P(the next token ends the letter | t)

"A" may begin "Apple", and "a" may be an article. For a decoded letter, the next step has already shown whether it ends.
Other tokens that are ambiguous and likely enough to matter are appended to the prompts' cache at the letter's position.
If the cache cannot be rewound to it, a new one is computed.

Letters that cannot be looked past count as they are: capitals in full, small letters that could be words not at all.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..prompting import letter_columns
from .caches import Branches, CachedPrompts, allows_gaps
from .encoding import Rendered
from .letter_tokens import Ending, Member, Members
from .plain_engine import ModelRunner
from .probe import captured

__all__ = ["DecodedLetter", "Look", "LookAhead"]


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DecodedLetter:
    """A decoded letter.

    Attributes:
        before: the tokens decoded before it.
        token: its token.
        is_small: whether it is a small letter, which then counts even if it was not looked past.
        after: `(1, …)`, the next step's row for `Head.logits`; None = it was the last.
    """

    before: Sequence[int]
    token: int
    is_small: bool
    after: Tensor | None


@dataclass(slots=True)
class Look:
    """The state of looking past one prompt's letters.

    Attributes:
        place: the prompt's index in its batch.
        item: the prompt.
        members: the tokens that may read as letters.
        decoded: the decoded answer letter, if the text was decoded.
        open: the members still to be looked past.
        ended: by cell, the log-probability that the letter ends.
    """

    place: int
    item: Rendered
    members: Members
    decoded: DecodedLetter | None
    open: list[Member]
    ended: dict[tuple[int, int], float] = field(default_factory=dict)

    def letters(self) -> list[float]:
        """Return the log-probabilities (nats) of all letters and digits."""
        is_small = self.decoded is not None and self.decoded.is_small
        return self.members.letters(self.ended, small=is_small and not self.ended)


Query = tuple[Look, Member]


class LookAhead:
    """Looks past letters.

    The next token after a cache is compared with the model's own `generate` once; if they differ, nothing is looked
    past.

    Args:
        runner: runs the model.

    Attributes:
        works: whether the comparison agreed; None = not compared yet.
        steps: number of tokens run for this.
    """

    def __init__(self, runner: ModelRunner) -> None:
        self.works: bool | None = None
        self.steps = 0
        self._runner = runner

    def letters(self, looks: Sequence[Look], reached: CachedPrompts | None) -> dict[int, list[float]]:
        """Look past the open members, and return the log-probabilities (nats) of all letters and digits, by prompt.

        Args:
            looks: results of `begin`.
            reached: the prompts' cache; None = no cache.
        """
        queries = [(look, member) for look in looks for member in look.open]
        if queries and self.works is not False:
            near = [] if reached is None else self._within_reach(queries, reached)
            if reached is not None and near and self._compared(*near[0], reached):
                self._look(near, reached)
            for look in looks:
                if look.decoded is not None:
                    self.look_with_new_cache(look)
        return {look.place: look.letters() for look in looks}

    def begin(
        self,
        members: Mapping[int, Members],
        items: Sequence[Rendered],
        decoded: Mapping[int, DecodedLetter] | None = None,
    ) -> list[Look]:
        """Return what is known about letters at once; open are the members of the prompts' letters.

        Args:
            members: by the prompts' indices, the tokens that may read as letters.
            items: the prompts.
            decoded: the answer letters of decoded texts.
        """
        decoded = decoded or {}
        looks = [
            Look(place, items[place], found, decoded.get(place), self._likely(found, items[place]))
            for place, found in members.items()
        ]
        known = [
            (look, member, after)
            for look in looks
            for member in look.open
            if look.decoded is not None
            and (after := look.decoded.after) is not None
            and look.decoded.token == member.token
        ]
        if known:
            self.note([(look, member) for look, member, _ in known], torch.cat([after for _, _, after in known]))
        return looks

    def note(self, queries: Sequence[Query], rows: Tensor) -> None:
        """Record the steps after letters, `(N, …)` for `Head.logits`."""
        logprobs = self._ended(rows, [member.ending for _, member in queries])
        for (look, member), logprob in zip(queries, logprobs, strict=True):
            look.ended[member.cell] = logprob
            look.open.remove(member)

    def near(self, look: Look, branches: Branches) -> list[Member]:
        """Return the members that can be looked past from a row of a cache that ends with a token, not with padding."""
        if allows_gaps(self._runner.config, branches.mask.shape[1] + 1):
            return list(look.open)
        return [member for member in look.open if member.back == 0]

    def look_with_new_cache(self, look: Look) -> None:
        """Look past a decoded letter of one prompt with a new cache, if that is possible."""
        if self.works is False or not look.open or look.decoded is None:
            return
        branches = self.prefilled(look.item)
        if branches is None:
            self.believe("`generate` returns no cache")
            return
        here = CachedPrompts(
            branches, torch.zeros(look.place + 1, dtype=torch.int64, device=branches.mask.device), kept=True
        )
        if not self._compared(look, look.open[0], here):
            return
        tokens = torch.tensor([[*look.decoded.before, member.token] for member in look.open], device=here.rows.device)
        branches.select(here.rows.new_zeros(len(tokens)))
        self.steps += tokens.numel()
        self.note([(look, member) for member in look.open], self.after(branches, tokens))

    def after(self, branches: Branches, tokens: Tensor) -> Tensor:
        """Append `(N, L)` tokens to branches, and return the next step's `(N, …)` rows for `Head.logits`."""
        hidden, logits = self._runner.append(branches, tokens)
        return self._runner.head.rows_at_once(hidden[:, 0], logits[:, 0])

    def _likely(self, members: Members, item: Rendered) -> list[Member]:
        return members.likely(letter_columns(item.prompt.style.letters[: len(item.prompt.options)]))

    def _within_reach(self, queries: list[Query], reached: CachedPrompts) -> list[Query]:
        """Leave out queries that would need a gap in a cache that allows none."""
        mask = reached.branches.mask
        if allows_gaps(self._runner.config, mask.shape[1] + 1):
            return queries
        whole = mask[reached.rows, -1].bool().tolist()
        return [(look, member) for look, member in queries if member.back == 0 and whole[look.place]]

    def _look(self, queries: Sequence[Query], reached: CachedPrompts) -> None:
        """Look past letters, as many at a time as the cache has rows."""
        size = len(reached.branches.mask)
        for start in range(0, len(queries), size):
            part = queries[start : start + size]
            self.note(part, self._after(part, reached, kept=start + size < len(queries)))

    def _after(self, queries: Sequence[Query], reached: CachedPrompts, *, kept: bool) -> Tensor:
        """Return the next step's `(N, …)` rows for `Head.logits` after each of some tokens."""
        device = reached.branches.mask.device
        places = torch.tensor([look.place for look, _ in queries], device=device)
        backs = torch.tensor([member.back for _, member in queries], device=device)
        tokens = torch.tensor([[member.token] for _, member in queries], device=device)
        self.steps += len(queries)
        return self.after(reached.branched(places, backs, kept=kept), tokens)

    def prefilled(self, item: Rendered) -> Branches | None:
        """Return a cache with one prompt; None = `generate` returns no cache."""
        return self._runner.prefill(self._runner.inputs([item]))[2]

    def _ended(self, rows: Tensor, endings: Sequence[Ending]) -> list[float]:
        found: list[float] = []
        for part in rows.split(self._runner.head.row_chunk()):
            logits = self._runner.head.logits(part).log_softmax(-1)
            for row in logits:
                mask = self._mask(endings[len(found)], row)
                found.append(min(float(row.masked_fill(~mask, -torch.inf).logsumexp(-1)), 0.0))
        return found

    def _mask(self, ending: Ending, row: Tensor) -> Tensor:
        mask = self._runner.vocabulary.ending(ending)
        # Logits beyond the vocabulary are padding: tokens without text.
        mask = torch.cat([mask, mask.new_ones(max(0, len(row) - len(mask)))])[: len(row)]
        return mask.to(row.device)

    def _compared(self, look: Look, member: Member, reached: CachedPrompts) -> bool:
        """Return whether the cache agrees with `generate`, compared once, after a prompt and a letter's token."""
        query = (look, Member(member.cell, reached.beyond, member.token, member.ending))
        if self.works is None and self._within_reach([query], reached):
            self.believe(self.difference(look.item, member.token, lambda: self._after([query], reached, kept=True)))
        return bool(self.works)

    def believe(self, reason: str | None) -> None:
        """Record whether the cache agrees with `generate`; None = it does, else why not."""
        self.works = reason is None
        if reason is not None:
            logger.warning(
                "%s: letters are not looked past, %s; letters that begin a word count as letters",
                type(self._runner.model).__name__,
                reason,
            )

    def difference(self, item: Rendered, token: int, found: Callable[[], Tensor]) -> str | None:
        """Return how the step after a prompt and a token differs from the model's own `generate`; None = it does not.

        Args:
            item: the prompt.
            token: the token.
            found: returns the `(1, …)` row for `Head.logits` of that step, computed in another way.
        """
        message = "letter log-probabilities after one differ by {:.2g} between its cache and its own `generate`"
        return self._runner.difference(found, self._generated(item, token), message)

    def _generated(self, item: Rendered, token: int) -> Tensor:
        """Return the row for `Head.logits` of the step after a prompt and a token, from the model's own `generate`."""
        runner, inputs = self._runner, self._runner.inputs([item])
        with captured(runner.model, runner.head) as seen, runner.decoding.prefilling() as config:
            config.max_new_tokens, config.eos_token_id = 2, None  # the token may be a stop token
            # Janus drops logits processors.
            runner.model.generate(**inputs, generation_config=config, prefix_allowed_tokens_fn=lambda *_: [token])
        hidden, logits = seen.last(1)
        return self._runner.head.rows_at_once(hidden[:, 0], logits[:, 0])
