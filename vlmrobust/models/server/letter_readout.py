"""Read letters from a server: exactly, token by token, or from its top k.

Exactly, where it returns the log-probabilities of tokens that it is told by number (vLLM). That is asked, not assumed,
since servers ignore what they do not know.

The numbers come from the checkpoint's tokenizer, where it is given, and then all forms of a letter are found ("A", "
A", "(A", ">A"); or from the server's `/tokenize`, and then those of `_FORMS`, and whatever it makes of the letter
behind a text.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Protocol

from ...prompting import KNOWN_TOKENS, SpecialTokens, letter_columns
from ...types import Prompt
from ..base import RefusedError
from ..vocabulary import TAIL, LetterVocabulary, letter_of
from .chat import EXACT, Chat
from .client import Shared
from .steps import Step, logsumexp

__all__ = ["MOST", "CheckpointTokens", "LetterTokens", "Letters", "Place", "ServedTokens"]


MOST = 128
"""How many tokens a request may name."""

# The likeliest first; a `>` belongs to the tag in front of the letter.
_BEFORE = ("", " ", ">", "(", " (", "\n", "[", '"', "'", "*", *"_.-/,<\t=:&+%$")
_BEHIND = (")", ".", ":", ",", "<", "\n")
_FORMS = (*((before, "") for before in _BEFORE), *((before, behind) for before in ("", " ") for behind in _BEHIND))
_RANKS = {form: rank for rank, form in enumerate(_FORMS)}


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a text that is put in front of a letter, at which the letter's token may begin.

    Attributes:
        rest: the text from here to the letter; empty = the letter stands here.
        onward: the text of the next token of that rest.
        ids: the token of `onward`, then the letters' tokens, those of the likeliest forms first; empty = not known.
    """

    rest: str
    onward: str
    ids: tuple[int, ...] = ()


class LetterTokens(Protocol):
    """Knows the letters' tokens."""

    def places(self, text: str, letters: str) -> tuple[Place, ...]:
        """Return where behind a text a letter may begin: mostly at its end alone, see `LetterVocabulary.forced_prefix`.

        Args:
            text: what stands in front of the letter.
            letters: those that are asked for.
        """

    def text_of(self, token: int) -> str:
        """Return how a token reads."""


class CheckpointTokens:
    """Letters' tokens by the checkpoint's own tokenizer.

    Args:
        tokenizer: a Hugging Face tokenizer, or a processor that has one.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
        self._vocabulary = LetterVocabulary(self._tokenizer)
        self._texts: dict[int, str] = {}

    def places(self, text: str, letters: str) -> tuple[Place, ...]:
        """See `LetterTokens.places`."""
        prefix = self._vocabulary.forced_prefix(text)
        onward = [self.text_of(token) for token in prefix.tokens]
        found = []
        for place, family in enumerate(prefix.families):
            rest = "".join(onward[place:])
            rows = [[token for token in family[row].tolist() if token >= 0] for row in letter_columns(letters)]
            ranked = sorted(
                (self._rank(token, rest, letter), token)
                for letter, row in zip(letters, rows, strict=True)
                for token in row
            )
            through = prefix.tokens[place : place + 1]
            found.append(Place(rest, "".join(onward[place : place + 1]), (*through, *(token for _, token in ranked))))
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
    """Letters' tokens by the server's own `/tokenize` and `/detokenize`, as vLLM has them.

    Args:
        post: sends a body to a path of the server and returns its reply; None = it has no such path.
        model: the model's name at the server.
    """

    def __init__(self, post: Callable[[str, Mapping[str, Any]], Any], model: str) -> None:
        self._post = post
        self._model = model
        self._known: dict[str, list[int]] = {}
        self._texts: dict[int, str] = {}
        self._places: dict[tuple[str, str], tuple[Place, ...]] = {}

    def is_offered(self) -> bool:
        """Return whether the server has both paths, and what the one cuts the other puts together again."""
        try:
            return self.text_of(self._encoded("A")[-1]).strip() == "A"
        except (LookupError, TypeError):
            return False

    def places(self, text: str, letters: str) -> tuple[Place, ...]:
        """See `LetterTokens.places`."""
        key = text[-TAIL:], letters
        if key not in self._places:
            self._places[key] = self._found(*key)
        return self._places[key]

    def text_of(self, token: int) -> str:
        """See `LetterTokens.text_of`."""
        if token not in self._texts:
            reply = self._post("/detokenize", {"model": self._model, "tokens": [token]})
            self._texts[token] = str(reply["prompt"])
        return self._texts[token]

    def _found(self, tail: str, letters: str) -> tuple[Place, ...]:
        alone = self._encoded(tail) if tail else []
        written = {(space, letter): self._encoded(tail + space + letter) for letter in letters for space in ("", " ")}
        shared = min(_common(alone, one) for one in written.values())
        onward = [self.text_of(token) for token in alone[shared:]]
        found = []
        for place in range(len(onward) + 1):
            rest = "".join(onward[place:])
            ids = dict.fromkeys(alone[shared + place : shared + place + 1])
            # What the server makes of a letter right there; a sentence-piece vocabulary cuts it in another way alone.
            for one in written.values():
                behind = one[shared + place :]
                same = one[: shared + place] == alone[: shared + place]
                if same and len(behind) == 1 and self._reads(behind[0], rest, letters):
                    ids[behind[0]] = None
            for before, after in _FORMS:
                for letter in letters:
                    one = self._encoded(f"{rest}{before}{letter}{after}")
                    if len(one) == 1 and self._reads(one[0], rest, letter):
                        ids[one[0]] = None
            found.append(Place(rest, "".join(onward[place : place + 1]), tuple(ids)))
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
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(tokens), len(others)))


_QUESTION: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": "Say one letter."}]}]
_ASKED = "ABCDEFGH"

Steps = Callable[[str, int, Mapping[str, Any]], Sequence[Step]]


class Letters:
    """Which tokens a request names, and what is read from them.

    Args:
        chat: asks the server.
        tokenizer: the checkpoint's: a name, a folder, a tokenizer or a processor; None = the server says which tokens
            the letters are.
    """

    def __init__(self, chat: Chat, tokenizer: Any = None) -> None:
        self._chat = chat
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._known = Shared()

    @property
    def tokens(self) -> LetterTokens | None:
        """The letters' tokens where the server returns the log-probabilities of tokens by number, else None.

        Raises:
            RefusedError: it does, and its tokens are not those of the tokenizer that was given.
        """
        return self._known.of("tokens", self._found)

    @property
    def special_tokens(self) -> SpecialTokens:
        """Those of the tokenizer that was given, or else of well-known families."""
        if self._tokenizer is None:
            return KNOWN_TOKENS
        return self._known.of("special", lambda: SpecialTokens.of(_loaded(self._tokenizer)))

    def processor(self) -> Any:
        """Return the checkpoint's processor; None = it was not given."""
        if self._tokenizer is None or hasattr(self._tokenizer, "image_processor"):
            return self._tokenizer
        if not isinstance(self._tokenizer, str | PathLike):
            return None  # a tokenizer alone
        from transformers import AutoProcessor

        return AutoProcessor.from_pretrained(self._tokenizer)

    def said(self, prompt: Prompt) -> dict[str, Any]:
        """Return what a request says for its letters to be read wherever the answer is written."""
        if prompt.style.answer_by != "letter":
            return {}
        # What stands in front decides how some vocabularies cut the letter itself.
        return self._named(self._places(prompt.style.answer_opener, prompt)[-1:])

    def read(
        self, prompt: Prompt, forced: str, steps: Steps, mergeable: Callable[[], str]
    ) -> tuple[list[float], float | None] | None:
        """Return the log-probabilities of all letters behind a forced text, and their floor; None = none came back.

        P is summed over the places at which the letter's token may begin: P(A) = P(">A") + P(">") · P("A" after ">").

        Args:
            prompt: what is asked.
            forced: what stands behind the prefill.
            steps: begins the assistant's turn with a text, generates some tokens and returns them; the last argument is
                what the request says besides.
            mergeable: the end of the forced text that a letter's token may begin with, where the tokens are not known.
        """
        places = self._places(prompt.prefill + forced, prompt)
        if not places:
            rest = mergeable()
            places = (Place(rest, rest), Place("", ""))[0 if rest else 1 :]
        said = self._named(places)
        turn = (prompt.prefill + forced).removesuffix(places[0].rest)
        reached = 0.0
        ways: list[list[float]] = []
        floors: list[float] = []
        ahead: list[Step] = []
        for number, place in enumerate(places):
            ahead = ahead or list(steps(turn, len(places) - number, said))
            if not ahead or not ahead[0].tells_letters:
                return None
            step, *ahead = ahead
            onward = place.onward.encode()
            lost = (
                step.missing(_shown(prompt))
                if not place.rest
                else onward.decode()
                if onward not in step.logprobs
                else ""
            )
            if step.exact and lost:
                raise ValueError(
                    f"sample {prompt.sample.id!r}, condition {prompt.condition!r}: expected the log-probabilities of "
                    f"the letters {_shown(prompt)} behind {turn[-40:]!r}, got none of {lost}"
                )
            ways.append([reached + letter for letter in step.letters(place.rest.encode())])
            floors += [] if step.floor is None else [reached + step.floor]
            if onward not in step.logprobs:
                break  # the last place, or a way that is too unlikely to be among the top k
            reached += step.logprobs[onward]
            turn += place.onward
            ahead = ahead if step.token == onward else []
        return [logsumexp(way) for way in zip(*ways, strict=True)], max(floors, default=None)

    def _places(self, text: str, prompt: Prompt) -> tuple[Place, ...]:
        tokens = self.tokens
        with self._lock:
            return () if tokens is None else tokens.places(text, _shown(prompt))

    def _named(self, places: Sequence[Place]) -> dict[str, Any]:
        # Of each place the likeliest forms first.
        ids = dict.fromkeys(
            token
            for rank in range(max((len(place.ids) for place in places), default=0))
            for place in places
            for token in place.ids[rank : rank + 1]
        )
        return {EXACT: list(ids)[:MOST]} if ids else {}

    def _found(self) -> LetterTokens | None:
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
        """Refuse tokens that read otherwise at the server."""
        ids = [token for place in tokens.places("", _ASKED) for token in place.ids][:MOST]
        returned = self._returned(ids)
        read = [letter_of(text.decode(errors="replace")) for text in returned]
        for token in ids:
            letter = letter_of(tokens.text_of(token))
            if letter not in read:
                shown = ", ".join(repr(text.decode(errors="replace")) for text in list(returned)[:8])
                raise RefusedError(
                    f"the tokenizer does not fit the server's: asked for the letters' tokens, such as {token} for "
                    f"{tokens.text_of(token)!r}, the server returned {shown or 'none'}"
                )
            read.remove(letter)

    def _returned(self, ids: Sequence[int]) -> list[bytes]:
        """Return the texts of tokens that come back when some are asked for; empty = the server does not heed it."""
        said = {EXACT: list(ids), "top_logprobs": 1}
        returned = self._chat.tried(_QUESTION, said, lambda reply: [t for s in reply.steps[:1] for t in s.returned])
        return returned if returned is not None and len(returned) >= len(ids) else []


def _shown(prompt: Prompt) -> str:
    return prompt.style.letters[: len(prompt.options)]


def _loaded(tokenizer: Any) -> Any:
    if not isinstance(tokenizer, str | PathLike):
        return tokenizer
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer)
