"""One token ahead: whether a letter ends where a model writes it, or goes on as a word.

    P(letter) = Σ over its tokens t of P(t) · P(what follows ends the letter | t)

"A" may be the beginning of "Apple", and "a" an article. Of a letter that was decoded the next step has said already
whether it ends. Other tokens that can be both, and are likely enough to matter, are appended to the cache that the
prompts have left, in the place where they would stand. A cache that cannot be taken back to there is made anew.

What cannot be looked past is counted as it is: capitals in full, small letters that could be words not at all.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..prompting import letter_columns
from .branches import Branches, Forward, Reached, bears_gaps, seen_positions
from .encoding import Encoder, Rendered
from .generation import Decoding
from .probe import Head, captured
from .processing import FAULTS
from .running import tolerance
from .vocabulary import Ending, LetterVocabulary, Member, Members, letter_logprobs

__all__ = ["Decoded", "LookAhead"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A letter that was decoded.

    Attributes:
        before: the tokens that were decoded before it.
        token: its own.
        is_small: whether it is a small letter, which counts then also where it was not looked past.
        after: `(1, …)`, what `Head.logits` needs of the next step; None = it was the last.
    """

    before: Sequence[int]
    token: int
    is_small: bool
    after: Tensor | None


class LookAhead:
    """Looks past letters.

    What a cache says of the next token is compared with the model's own `generate` once; where the two differ, nothing
    is looked past.

    Args:
        model: a Hugging Face model.
        encoder: encodes its prompts.
        head: its LM head.
        decoding: how texts are decoded.
        vocabulary: which tokens read as which letter.

    Attributes:
        works: whether the comparison came out the same; None = not compared yet.
        steps: how many tokens went through the model for this.
    """

    def __init__(
        self, model: Any, encoder: Encoder, head: Head, decoding: Decoding, vocabulary: LetterVocabulary
    ) -> None:
        self.works: bool | None = None
        self.steps = 0
        self._model = model
        self._encoder = encoder
        self._head = head
        self._decoding = decoding
        self._vocabulary = vocabulary
        self._forward = Forward(model)

    def letters(
        self,
        members: Mapping[int, Members],
        items: Sequence[Rendered],
        reached: Reached | None,
        decoded: Mapping[int, Decoded] | None = None,
    ) -> dict[int, list[float]]:
        """Return the log-probabilities (nats) of all letters and digits; those that are shown are looked past.

        Args:
            members: by the positions of prompts, the tokens that may read as letters.
            items: the prompts.
            reached: where they stand in a cache; None = there is none to look ahead with.
            decoded: the letters that answered them, of prompts that were not read but decoded.
        """
        decoded = decoded or {}
        asked = [(place, member) for place, found in members.items() for member in self._likely(found, items[place])]
        looked: dict[int, dict[tuple[int, int], float]] = {place: {} for place in members}

        def note(part: Sequence[tuple[int, Member]], logprobs: Sequence[float]) -> None:
            for (place, member), logprob in zip(part, logprobs, strict=True):
                looked[place][member.cell] = logprob

        known = {
            (place, member): letter.after
            for place, member in asked
            if (letter := decoded.get(place)) and letter.after is not None and letter.token == member.token
        }
        if known:
            note(list(known), self._ended(torch.cat(list(known.values())), [member.ending for _, member in known]))
        asked = [one for one in asked if one not in known]
        if asked and reached is not None and self.works is not False:
            near = self._within_reach(asked, reached)
            if near and self._compared(items, *near[0], reached):
                note(near, self._endings(near, reached))
            for place in dict.fromkeys(place for place, _ in asked if place in decoded):
                far = [one for one in asked if one[0] == place and one not in near]
                if far:
                    note(far, self._anew(far, items, decoded[place].before))
        return {
            place: found.letters(
                looked[place], small=not looked[place] and place in decoded and decoded[place].is_small
            )
            for place, found in members.items()
        }

    def _likely(self, members: Members, item: Rendered) -> list[Member]:
        return members.likely(letter_columns(item.prompt.style.letters[: len(item.prompt.options)]))

    def _within_reach(self, asked: list[tuple[int, Member]], reached: Reached) -> list[tuple[int, Member]]:
        """Leave out what would need a gap in a cache that bears none."""
        mask = reached.branches.mask
        if bears_gaps(self._model.config.get_text_config(), mask.shape[1] + 1):
            return asked
        whole = mask[reached.rows, -1].bool().tolist()
        return [(place, member) for place, member in asked if member.back == 0 and whole[place]]

    def _endings(self, asked: Sequence[tuple[int, Member]], reached: Reached) -> list[float]:
        """Return the log-probability that each letter ends, as many at a time as the cache has rows."""
        size = len(reached.branches.mask)
        found: list[float] = []
        for start in range(0, len(asked), size):
            part = asked[start : start + size]
            logits = self._after(part, reached, kept=start + size < len(asked))
            found += self._ended(logits, [member.ending for _, member in part])
        return found

    def _after(self, asked: Sequence[tuple[int, Member]], reached: Reached, *, kept: bool) -> Tensor:
        """Return `(N, …)` rows for `Head.logits` of the step after each of some tokens."""
        device = reached.branches.mask.device
        places = torch.tensor([place for place, _ in asked], device=device)
        backs = torch.tensor([member.back for _, member in asked], device=device)
        tokens = torch.tensor([[member.token] for _, member in asked], device=device)
        branches = reached.branched(places, backs, kept=kept)
        self.steps += len(asked)
        with captured(self._model, self._head) as seen:
            self._forward(branches, tokens, torch.ones_like(tokens))
        hidden, logits = seen.last(1)
        return self._head.rows_at_once(hidden[:, 0], logits[:, 0])

    def _anew(
        self, asked: Sequence[tuple[int, Member]], items: Sequence[Rendered], before: Sequence[int]
    ) -> list[float]:
        """Return the log-probability that letters of one prompt end, over a cache made anew; none if it is no help."""
        place, first = asked[0]
        branches = self.prefilled(items[place])
        if branches is None:
            return []
        rows = torch.zeros(len(items), dtype=torch.int64, device=branches.mask.device)
        if not self._compared(items, place, first, Reached(branches, rows, kept=True)):
            return []
        tokens = torch.tensor([[*before, member.token] for _, member in asked], device=rows.device)
        branches.select(rows.new_zeros(len(asked)))
        self.steps += tokens.numel()
        with captured(self._model, self._head) as seen:
            self._forward(branches, tokens, torch.ones_like(tokens))
        hidden, logits = seen.last(1)
        after = self._head.rows_at_once(hidden[:, 0], logits[:, 0])
        return self._ended(after, [member.ending for _, member in asked])

    def prefilled(self, item: Rendered) -> Branches | None:
        """Return a cache that holds one prompt, None where `generate` leaves none."""
        inputs = self._inputs(item)
        with seen_positions(self._model) as positions, self._decoding.prefilling() as config:
            output = self._model.generate(**inputs, generation_config=config)
        if not positions or getattr(output, self._forward.cache_name, None) is None:
            return None
        return self._forward.branches(output, inputs, positions[0])

    def _inputs(self, item: Rendered) -> dict[str, Any]:
        encoded = self._encoder.encode([item.text], [item.images])
        return self._encoder.to_device(encoded, self._model.device, self._model.dtype)

    def _ended(self, rows: Tensor, endings: Sequence[Ending]) -> list[float]:
        found: list[float] = []
        for part in rows.split(self._head.row_chunk()):
            logits = self._head.logits(part).log_softmax(-1)
            for row in logits:
                mask = self._mask(endings[len(found)], row)
                found.append(min(float(row.masked_fill(~mask, -torch.inf).logsumexp(-1)), 0.0))
        return found

    def _mask(self, ending: Ending, row: Tensor) -> Tensor:
        mask = self._vocabulary.ending(ending)
        # Logits beyond the vocabulary are padding: tokens without a text.
        mask = torch.cat([mask, mask.new_ones(max(0, len(row) - len(mask)))])[: len(row)]
        return mask.to(row.device)

    def _compared(self, items: Sequence[Rendered], place: int, member: Member, reached: Reached) -> bool:
        """Return whether the cache says what `generate` says; found out once, after a prompt and a letter's token."""
        at_the_prompts_end = Member(member.cell, reached.beyond, member.token, member.ending)
        if self.works is None and self._within_reach([(place, at_the_prompts_end)], reached):
            reason = self._difference(items[place], (place, at_the_prompts_end), reached)
            self.works = reason is None
            if reason is not None:
                logger.warning(
                    "%s: what follows a letter is not looked at, %s; letters that begin a word are counted as letters",
                    type(self._model).__name__,
                    reason,
                )
        return bool(self.works)

    def _difference(self, item: Rendered, asked: tuple[int, Member], reached: Reached) -> str | None:
        """Return how the step after a token differs between the cache and `generate`, None if it does not."""
        expected = self._generated(item, asked[1].token)
        try:
            found = self._after([asked], reached, kept=True)
        except torch.OutOfMemoryError:
            raise
        except FAULTS as error:
            return f"{type(error).__name__}: {error}"
        letters = [letter_logprobs(self._head.logits(rows), self._vocabulary.families) for rows in (found, expected)]
        difference = float((letters[0] - letters[1]).abs().nan_to_num(0.0).max())
        if difference <= tolerance(self._model):
            return None
        return f"letter log-probabilities after one differ by {difference:.2g} between its cache and its own `generate`"

    def _generated(self, item: Rendered, token: int) -> Tensor:
        """Return what `Head.logits` needs of the step after a prompt and a token, from the model's own `generate`."""
        inputs = self._inputs(item)

        def forced(_: Tensor, scores: Tensor) -> Tensor:
            only = torch.full_like(scores, -torch.inf)
            only[:, token] = 0.0
            return only

        with captured(self._model, self._head) as seen, self._decoding.prefilling() as config:
            config.max_new_tokens = 2
            self._model.generate(**inputs, generation_config=config, logits_processor=[forced])
        hidden, logits = seen.last(1)
        return self._head.rows_at_once(hidden[:, 0], logits[:, 0])
