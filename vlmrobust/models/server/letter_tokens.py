"""The numbers of the letters' tokens in a server's vocabulary, to ask for their log-probabilities one by one.

They come from the checkpoint's tokenizer, where it is given, and then all forms of a letter are found ("A", " A", "(A",
">A"); or from the server's `/tokenize`, and then those of `_FORMS`, and whatever it makes of the letter behind a text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ...prompting import letter_columns
from ..vocabulary import TAIL, LetterVocabulary, letter_of

__all__ = ["MOST", "CheckpointTokens", "LetterTokens", "Place", "ServedTokens"]

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
