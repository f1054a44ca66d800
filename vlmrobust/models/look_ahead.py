"""Look one token ahead: does a letter end where a model writes it, or is it the beginning of a word?

    P(letter) = Σ over its tokens t of P(t) · P(what follows ends the letter | t)

"A" may be the beginning of "Apple", and "a" an article. Of a letter that was decoded the next step has said already
whether it ends. Other tokens that can be both, and are likely enough to matter, are appended to the cache that the
prompts have left, in the place where they would stand. A cache that cannot be taken back to there is made anew.

What cannot be looked past is counted as it is: capitals in full, small letters that could be words not at all.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..prompting import letter_columns
from .branches import Branches, Forward, Reached, bears_gaps, seen_positions
from .encoding import Encoder
from .generation import Decoding
from .probe import Head, captured
from .processing import FAULTS
from .rendered import Rendered
from .unwrapping import tolerance
from .vocabulary import Ending, LetterVocabulary, Member, Members, letter_logprobs

__all__ = ["Decoded", "Look", "LookAhead"]


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


@dataclass(slots=True)
class Look:
    """What is known so far of the letters of one prompt.

    Attributes:
        place: which of the prompts of a batch it is.
        item: the prompt.
        members: the tokens that may read as letters.
        decoded: the letter that answered it, if it was not read but decoded.
        open: those that have not been looked past yet, and should be.
        ended: by cell, the log-probability that a letter ends there.
    """

    place: int
    item: Rendered
    members: Members
    decoded: Decoded | None
    open: list[Member]
    ended: dict[tuple[int, int], float] = field(default_factory=dict)

    def letters(self) -> list[float]:
        """Return the log-probabilities (nats) of all letters and digits."""
        is_small = self.decoded is not None and self.decoded.is_small
        return self.members.letters(self.ended, small=is_small and not self.ended)


Asked = tuple[Look, Member]


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

    def letters(self, looks: Sequence[Look], reached: Reached | None) -> dict[int, list[float]]:
        """Look past what is open, and return the log-probabilities (nats) of all letters and digits, by prompt.

        Args:
            looks: as `begin` returned them.
            reached: where their prompts stand in a cache; None = there is none to look ahead with.
        """
        asked = [(look, member) for look in looks for member in look.open]
        if asked and reached is not None and self.works is not False:
            near = self._within_reach(asked, reached)
            if near and self._compared(*near[0], reached):
                self._look(near, reached)
            for look in looks:
                if look.decoded is not None:
                    self.look_anew(look)
        return {look.place: look.letters() for look in looks}

    def begin(
        self,
        members: Mapping[int, Members],
        items: Sequence[Rendered],
        decoded: Mapping[int, Decoded] | None = None,
    ) -> list[Look]:
        """Return what is known of letters at once; those that are shown are to be looked past.

        Args:
            members: by the positions of prompts, the tokens that may read as letters.
            items: the prompts.
            decoded: the letters that answered them, of prompts that were not read but decoded.
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

    def note(self, asked: Sequence[Asked], rows: Tensor) -> None:
        """Take note of the steps after letters, `(N, …)` for `Head.logits`."""
        logprobs = self._ended(rows, [member.ending for _, member in asked])
        for (look, member), logprob in zip(asked, logprobs, strict=True):
            look.ended[member.cell] = logprob
            look.open.remove(member)

    def near(self, look: Look, branches: Branches) -> list[Member]:
        """Return what can be looked past from a row of a cache that ends with a token, not with padding."""
        if bears_gaps(self._model.config.get_text_config(), branches.mask.shape[1] + 1):
            return list(look.open)
        return [member for member in look.open if member.back == 0]

    def look_anew(self, look: Look) -> None:
        """Look past a decoded letter of one prompt over a cache made anew, if that is any help."""
        if not look.open or look.decoded is None:
            return
        branches = self.prefilled(look.item)
        if branches is None:
            return
        here = Reached(branches, torch.zeros(look.place + 1, dtype=torch.int64, device=branches.mask.device), kept=True)
        if not self._compared(look, look.open[0], here):
            return
        tokens = torch.tensor([[*look.decoded.before, member.token] for member in look.open], device=here.rows.device)
        branches.select(here.rows.new_zeros(len(tokens)))
        self.steps += tokens.numel()
        self.note([(look, member) for member in look.open], self.after(branches, tokens))

    def after(self, branches: Branches, tokens: Tensor) -> Tensor:
        """Append `(N, L)` tokens to branches, and return `(N, …)` for `Head.logits` of the step behind them."""
        with captured(self._model, self._head) as seen:
            self._forward(branches, tokens, torch.ones_like(tokens))
        hidden, logits = seen.last(1)
        return self._head.rows_at_once(hidden[:, 0], logits[:, 0])

    def _likely(self, members: Members, item: Rendered) -> list[Member]:
        return members.likely(letter_columns(item.prompt.style.letters[: len(item.prompt.options)]))

    def _within_reach(self, asked: list[Asked], reached: Reached) -> list[Asked]:
        """Leave out what would need a gap in a cache that bears none."""
        mask = reached.branches.mask
        if bears_gaps(self._model.config.get_text_config(), mask.shape[1] + 1):
            return asked
        whole = mask[reached.rows, -1].bool().tolist()
        return [(look, member) for look, member in asked if member.back == 0 and whole[look.place]]

    def _look(self, asked: Sequence[Asked], reached: Reached) -> None:
        """Look past letters, as many at a time as the cache has rows."""
        size = len(reached.branches.mask)
        for start in range(0, len(asked), size):
            part = asked[start : start + size]
            self.note(part, self._after(part, reached, kept=start + size < len(asked)))

    def _after(self, asked: Sequence[Asked], reached: Reached, *, kept: bool) -> Tensor:
        """Return `(N, …)` rows for `Head.logits` of the step after each of some tokens."""
        device = reached.branches.mask.device
        places = torch.tensor([look.place for look, _ in asked], device=device)
        backs = torch.tensor([member.back for _, member in asked], device=device)
        tokens = torch.tensor([[member.token] for _, member in asked], device=device)
        self.steps += len(asked)
        return self.after(reached.branched(places, backs, kept=kept), tokens)

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

    def _compared(self, look: Look, member: Member, reached: Reached) -> bool:
        """Return whether the cache says what `generate` says; found out once, after a prompt and a letter's token."""
        asked = (look, Member(member.cell, reached.beyond, member.token, member.ending))
        if self.works is None and self._within_reach([asked], reached):
            self.believe(self.difference(look.item, member.token, lambda: self._after([asked], reached, kept=True)))
        return bool(self.works)

    def believe(self, reason: str | None) -> None:
        """Take note of whether the cache says what `generate` says; None = it does, else why not."""
        self.works = reason is None
        if reason is not None:
            logger.warning(
                "%s: what follows a letter is not looked at, %s; letters that begin a word are counted as letters",
                type(self._model).__name__,
                reason,
            )

    def difference(self, item: Rendered, token: int, found: Callable[[], Tensor]) -> str | None:
        """Return how the step after a prompt and a token differs from the model's own `generate`; None = it does not.

        Args:
            item: the prompt.
            token: the token.
            found: returns `(1, …)` for `Head.logits` of that step, as something else than `generate` has it.
        """
        expected = self._generated(item, token)
        try:
            rows = found()
        except torch.OutOfMemoryError:
            raise
        except FAULTS as error:
            return f"{type(error).__name__}: {error}"
        letters = [letter_logprobs(self._head.logits(one), self._vocabulary.families) for one in (rows, expected)]
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
            config.max_new_tokens, config.eos_token_id = 2, None  # the token may be one that ends a text
            self._model.generate(**inputs, generation_config=config, logits_processor=[forced])
        hidden, logits = seen.last(1)
        return self._head.rows_at_once(hidden[:, 0], logits[:, 0])
