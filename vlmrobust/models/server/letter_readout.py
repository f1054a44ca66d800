"""Read letter probabilities from a server: exactly by token id, or from its top k.

Exact readout needs a server that returns the log-probabilities of requested token ids (vLLM). This is tested, since
servers ignore fields that they do not know.

The ids come from the checkpoint's tokenizer, if given, which yields all forms of a letter ("A", " A", "(A", ">A"); or
from the server's `/tokenize`, which yields those of `_FORMS` and the token that it makes of the letter after a text.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Protocol

from ...prompting import KNOWN_TOKENS, SpecialTokens, letter_columns
from ...types import Prompt
from ..base import RefusedError
from ..letter_tokens import TAIL, LetterVocabulary, letter_of
from .chat import EXACT, Chat
from .client import Memo
from .steps import Step, logsumexp

__all__ = ["MOST", "CheckpointTokens", "LetterPosition", "LetterReadout", "LetterTokens", "ServedTokens"]


MOST = 128
"""Maximum number of token ids in a request."""

# Likeliest first; a `>` belongs to the tag before the letter.
_BEFORE = ("", " ", ">", "(", " (", "\n", "[", '"', "'", "*", *"_.-/,<\t=:&+%$")
_BEHIND = (")", ".", ":", ",", "<", "\n")
_FORMS = (*((before, "") for before in _BEFORE), *((before, behind) for before in ("", " ") for behind in _BEHIND))
_RANKS = {form: rank for rank, form in enumerate(_FORMS)}


@dataclass(frozen=True, slots=True)
class LetterPosition:
    """A position in a text before a letter, at which the letter's token may begin.

    Attributes:
        remainder: the text from here to the letter; empty = the letter is here.
        onward: the text of the next token of the remainder.
        ids: the token of `onward`, then the letters' tokens, likeliest forms first; empty = unknown.
    """

    remainder: str
    onward: str
    ids: tuple[int, ...] = ()


class LetterTokens(Protocol):
    """Provides the letters' tokens."""

    def positions(self, text: str, letters: str) -> tuple[LetterPosition, ...]:
        """Return where a letter after a text may begin: usually only at its end, see `LetterVocabulary.forced_prefix`.

        Args:
            text: the text before the letter.
            letters: the letters to find.
        """

    def text_of(self, token: int) -> str:
        """Return the text of a token."""


class CheckpointTokens:
    """Provides the letters' tokens from the checkpoint's tokenizer.

    Args:
        tokenizer: a Hugging Face tokenizer, or a processor that has one.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
        self._vocabulary = LetterVocabulary(self._tokenizer)
        self._texts: dict[int, str] = {}

    def positions(self, text: str, letters: str) -> tuple[LetterPosition, ...]:
        """See `LetterTokens.positions`."""
        prefix = self._vocabulary.forced_prefix(text)
        onward = [self.text_of(token) for token in prefix.tokens]
        found = []
        for position, family in enumerate(prefix.families):
            rest = "".join(onward[position:])
            rows = [[token for token in family[row].tolist() if token >= 0] for row in letter_columns(letters)]
            ranked = sorted(
                (self._rank(token, rest, letter), token)
                for letter, row in zip(letters, rows, strict=True)
                for token in row
            )
            through = prefix.tokens[position : position + 1]
            ids = (*through, *(token for _, token in ranked))
            found.append(LetterPosition(rest, "".join(onward[position : position + 1]), ids))
        return tuple(found)

    def text_of(self, token: int) -> str:
        """See `LetterTokens.text_of`."""
        if token not in self._texts:
            self._texts[token] = self._decoded(token)
        return self._texts[token]

    def _decoded(self, token: int) -> str:
        return str(self._tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _rank(self, token: int, rest: str, letter: str) -> int:
        before, _, behind = self.text_of(token).removeprefix(rest).partition(letter)
        return _RANKS.get((before, behind), len(_RANKS))


class ServedTokens:
    """Provides the letters' tokens from the server's `/tokenize` and `/detokenize`, as in vLLM.

    Args:
        post: posts a body to a path of the server and returns the reply; None = no such path.
        model: the model's name at the server.
    """

    def __init__(self, post: Callable[[str, Mapping[str, Any]], Any], model: str) -> None:
        self._post = post
        self._model = model
        self._known: dict[str, list[int]] = {}
        self._texts: dict[int, str] = {}
        self._positions: dict[tuple[str, str], tuple[LetterPosition, ...]] = {}

    def is_offered(self) -> bool:
        """Return whether the server has both paths, and they are inverse."""
        try:
            return self.text_of(self._encoded("A")[-1]).strip() == "A"
        except (LookupError, TypeError):
            return False

    def positions(self, text: str, letters: str) -> tuple[LetterPosition, ...]:
        """See `LetterTokens.positions`."""
        key = text[-TAIL:], letters
        if key not in self._positions:
            self._positions[key] = self._find(*key)
        return self._positions[key]

    def text_of(self, token: int) -> str:
        """See `LetterTokens.text_of`."""
        if token not in self._texts:
            reply = self._post("/detokenize", {"model": self._model, "tokens": [token]})
            self._texts[token] = str(reply["prompt"])
        return self._texts[token]

    def _find(self, tail: str, letters: str) -> tuple[LetterPosition, ...]:
        prefix = self._encoded(tail) if tail else []
        written = {(space, letter): self._encoded(tail + space + letter) for letter in letters for space in ("", " ")}
        shared = min(_common(prefix, one) for one in written.values())
        onward = [self.text_of(token) for token in prefix[shared:]]
        found = []
        for position in range(len(onward) + 1):
            rest = "".join(onward[position:])
            ids = dict.fromkeys(prefix[shared + position : shared + position + 1])
            # The letter tokenised in context; a SentencePiece vocabulary tokenises it differently alone.
            for one in written.values():
                behind = one[shared + position :]
                same = one[: shared + position] == prefix[: shared + position]
                if same and len(behind) == 1 and self._reads(behind[0], rest, letters):
                    ids[behind[0]] = None
            for before, after in _FORMS:
                for letter in letters:
                    one = self._encoded(f"{rest}{before}{letter}{after}")
                    if len(one) == 1 and self._reads(one[0], rest, letter):
                        ids[one[0]] = None
            found.append(LetterPosition(rest, "".join(onward[position : position + 1]), tuple(ids)))
        return tuple(found)

    def _reads(self, token: int, rest: str, letters: str) -> bool:
        text = self.text_of(token)
        return text.startswith(rest) and (letter_of(text.removeprefix(rest)) or " ") in letters

    def _encoded(self, text: str) -> list[int]:
        if text not in self._known:
            body = {"model": self._model, "prompt": text, "add_special_tokens": False}
            self._known[text] = [int(token) for token in self._post("/tokenize", body)["tokens"]]
        return self._known[text]


def _common(tokens: Sequence[int], others: Sequence[int]) -> int:
    pairs = zip(tokens, others, strict=False)
    return next(
        (position for position, (one, other) in enumerate(pairs) if one != other), min(len(tokens), len(others))
    )


_QUESTION: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": "Say one letter."}]}]
_TESTED_LETTERS = "ABCDEFGH"

GenerateSteps = Callable[[str, int, Mapping[str, Any]], Sequence[Step]]


class LetterReadout:
    """Chooses the token ids that requests name, and reads the letters from the replies.

    Args:
        chat: sends the requests.
        tokenizer: the checkpoint's: a name, a folder, a tokenizer or a processor; None = ask the server for the
            letters' tokens.
    """

    def __init__(self, chat: Chat, tokenizer: Any = None) -> None:
        self._chat = chat
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._known = Memo()

    @property
    def tokens(self) -> LetterTokens | None:
        """The letters' tokens if the server returns log-probabilities of requested token ids, else None.

        Raises:
            RefusedError: it does, and its tokens differ from the given tokenizer's.
        """
        return self._known.get("tokens", self._find)

    @property
    def special_tokens(self) -> SpecialTokens:
        """Special tokens of the given tokenizer, or of well-known families."""
        if self._tokenizer is None:
            return KNOWN_TOKENS
        return self._known.get("special", lambda: SpecialTokens.of(_loaded(self._tokenizer)))

    def processor(self) -> Any:
        """Return the checkpoint's processor; None = not given."""
        if self._tokenizer is None or hasattr(self._tokenizer, "image_processor"):
            return self._tokenizer
        if not isinstance(self._tokenizer, str | PathLike):
            return None  # a tokenizer alone
        from transformers import AutoProcessor

        return AutoProcessor.from_pretrained(self._tokenizer)

    def request_fields(self, prompt: Prompt) -> dict[str, Any]:
        """Return the request fields for reading the letters wherever the answer is generated."""
        if prompt.style.answer_by != "letter":
            return {}
        # The text before the letter decides how some vocabularies tokenise it.
        return self._exact_fields(self._positions(prompt.style.answer_opener, prompt)[-1:])

    def read(
        self, prompt: Prompt, forced: str, generate: GenerateSteps, mergeable: Callable[[], str]
    ) -> tuple[list[float], float | None] | None:
        """Return the log-probabilities of all letters after a forced text, and their floor; None = none returned.

        P sums over the positions at which the letter's token may begin: P(A) = P(">A") + P(">") · P("A" after ">").

        Args:
            prompt: the prompt.
            forced: the text after the prefill.
            generate: prefills the assistant's turn with a text, generates some tokens and returns their steps; the last
                argument holds other fields of the request.
            mergeable: the end of the forced text that a letter's token may begin with, if the tokens are unknown.
        """
        positions = self._positions(prompt.prefill + forced, prompt)
        if not positions:
            rest = mergeable()
            positions = (LetterPosition(rest, rest), LetterPosition("", ""))[0 if rest else 1 :]
        fields = self._exact_fields(positions)
        turn = (prompt.prefill + forced).removesuffix(positions[0].remainder)
        path_logprob = 0.0
        by_position: list[list[float]] = []
        floors: list[float] = []
        ahead: list[Step] = []
        for number, position in enumerate(positions):
            ahead = ahead or list(generate(turn, len(positions) - number, fields))
            if not ahead or not ahead[0].tells_letters:
                return None
            step, *ahead = ahead
            onward = position.onward.encode()
            if not position.remainder:
                missing = step.missing(_shown(prompt))
            else:
                missing = "" if onward in step.logprobs else position.onward
            if step.exact and missing:
                raise ValueError(
                    f"sample {prompt.sample.id!r}, condition {prompt.condition!r}: expected the log-probabilities of "
                    f"the letters {_shown(prompt)} after {turn[-40:]!r}, got none of {missing}"
                )
            by_position.append([path_logprob + letter for letter in step.letters(position.remainder.encode())])
            floors += [] if step.floor is None else [path_logprob + step.floor]
            if onward not in step.logprobs:
                break  # the last position, or a token too unlikely to be in the top k
            path_logprob += step.logprobs[onward]
            turn += position.onward
            ahead = ahead if step.token == onward else []
        return [logsumexp(values) for values in zip(*by_position, strict=True)], max(floors, default=None)

    def _positions(self, text: str, prompt: Prompt) -> tuple[LetterPosition, ...]:
        tokens = self.tokens
        with self._lock:
            return () if tokens is None else tokens.positions(text, _shown(prompt))

    def _exact_fields(self, positions: Sequence[LetterPosition]) -> dict[str, Any]:
        # The likeliest forms of every position come first.
        ids = dict.fromkeys(
            token
            for rank in range(max((len(position.ids) for position in positions), default=0))
            for position in positions
            for token in position.ids[rank : rank + 1]
        )
        return {EXACT: list(ids)[:MOST]} if ids else {}

    def _find(self) -> LetterTokens | None:
        if self._chat.top_logprobs is None or not self._returned(range(4)):
            return None
        if self._tokenizer is None:
            served = ServedTokens(self._chat.post, self._chat.model)
            tokens: LetterTokens | None = served if served.is_offered() else None
        else:
            tokens = CheckpointTokens(_loaded(self._tokenizer))
        if tokens is not None:
            self._compare(tokens)
        return tokens

    def _compare(self, tokens: LetterTokens) -> None:
        """Raise if tokens have other texts at the server."""
        ids = [token for position in tokens.positions("", _TESTED_LETTERS) for token in position.ids][:MOST]
        returned = self._returned(ids)
        read = [letter_of(text.decode(errors="replace")) for text in returned]
        for token in ids:
            letter = letter_of(tokens.text_of(token))
            if letter not in read:
                shown = ", ".join(repr(text.decode(errors="replace")) for text in list(returned)[:8])
                raise RefusedError(
                    f"the tokenizer does not fit the server's: requested the letters' tokens, such as {token} for "
                    f"{tokens.text_of(token)!r}, the server returned {shown or 'none'}"
                )
            read.remove(letter)

    def _returned(self, ids: Sequence[int]) -> list[bytes]:
        """Return the texts of the tokens returned for requested ids; empty = the server ignores the request."""
        fields = {EXACT: list(ids), "top_logprobs": 1}
        returned = self._chat.try_request(
            _QUESTION, fields, lambda reply: [t for s in reply.steps[:1] for t in s.returned]
        )
        return returned if returned is not None and len(returned) >= len(ids) else []


def _shown(prompt: Prompt) -> str:
    return prompt.style.letters[: len(prompt.options)]


def _loaded(tokenizer: Any) -> Any:
    if not isinstance(tokenizer, str | PathLike):
        return tokenizer
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer)
