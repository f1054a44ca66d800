"""Reference results: plain forward passes, one prompt at a time, and letters found over the whole vocabulary.

What follows a letter is found by one more whole forward per token; what ends one is the parser's to say.
"""

import math
import re
import string
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from vlmrobust import Prompt
from vlmrobust.prompting.mentions import Reading
from vlmrobust.types import open_image

MARKS = string.ascii_uppercase + string.digits
ONE_LETTER = re.compile(r"[\W_]*([A-Z0-9])[\W_]*")
EITHER_CASE = re.compile(r"[\W_]*([A-Za-z0-9])([\W_]*)")
LEAST = math.log(1e-3)


def rendered(processor: Any, prompt: Prompt) -> str:
    """Return the chat template's own rendering and the prefill."""
    text = processor.apply_chat_template(prompt.messages(), add_generation_prompt=True, tokenize=False)
    return str(text) + prompt.prefill


def inputs_of(processor: Any, text: str, images: Sequence[Any]) -> dict[str, Any]:
    """Return what the processor makes of one prompt."""
    # Nested, as for a batch of one: LLaVA-OneVision takes a flat list for that many samples of one image each.
    opened = [[open_image(image) for image in images]] if images else None
    if hasattr(processor, "multi_page"):  # GOT-OCR2 takes nested images for pages
        opened = opened and opened[0]
    asked: dict[str, Any] = {"return_tensors": "pt", "add_special_tokens": False}
    if "Cosmos3Edge" in type(processor).__name__:  # its model insists on them
        asked["return_mm_token_type_ids"] = True
    inputs = dict(processor(text=[text], images=opened, **asked))
    inputs.pop("labels", None)
    # Chameleon's processor closes the turn behind whatever it is given.
    closed = inputs["input_ids"][0, -1] == getattr(processor.tokenizer, "sep_token_id", None)
    return shortened(inputs, 1) if closed else inputs


def _per_token(inputs: dict[str, Any]) -> set[str]:
    shape = inputs["input_ids"].shape
    return {name for name, value in inputs.items() if isinstance(value, Tensor) and value.shape[:2] == shape}


def continued(inputs: dict[str, Any], tokens: Sequence[int]) -> dict[str, Any]:
    """Return a prompt's inputs with generated tokens behind it."""
    more = len(tokens)
    grown = dict(inputs)
    grown["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([list(tokens)])], dim=1)
    grown["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones(1, more, dtype=torch.int64)], dim=1)
    for name in _per_token(inputs) - {"input_ids", "attention_mask", "cross_attention_mask"}:
        kinds = inputs[name]  # generated tokens are text
        grown[name] = torch.cat([kinds, torch.zeros(1, more, *kinds.shape[2:], dtype=kinds.dtype)], dim=1)
    if "cross_attention_mask" in inputs:  # and see the images that the last token saw
        last = inputs["cross_attention_mask"][:, -1:]
        grown["cross_attention_mask"] = torch.cat(
            [inputs["cross_attention_mask"], last.expand(-1, more, -1, -1)], dim=1
        )
    return grown


@torch.inference_mode()
def logits_of(model: Any, inputs: dict[str, Any]) -> Tensor:
    """Return `(L, V)` float64 log-probabilities of every position of one prompt."""
    logits: Tensor = model(**inputs).logits[0].double()
    return logits.log_softmax(-1)


def token_texts(tokenizer: Any) -> list[str]:
    """Return what each token stands for within a text; special tokens stand for nothing."""
    texts = []
    for token in range(len(tokenizer)):
        piece = tokenizer.convert_ids_to_tokens(token)
        if token in tokenizer.all_special_ids:
            texts.append("")
        elif "▁" in tokenizer.get_vocab() and not re.fullmatch("<0x..>", piece):
            texts.append(piece.replace("▁", " "))
        else:
            texts.append(tokenizer.decode([token], clean_up_tokenization_spaces=False))
    return texts


def ends(letter: str, following: str) -> bool:
    """Return whether the parser takes a letter for one, given what follows it."""
    text = letter + following
    letters = string.digits if letter.isdecimal() else string.ascii_uppercase
    return Reading.of(text, (), letters).letter_at(0, len(text)) is not None


def shortened(inputs: dict[str, Any], count: int) -> dict[str, Any]:
    """Return a prompt's inputs without its last tokens."""
    cut = {name: inputs[name][:, : inputs[name].shape[1] - count] for name in _per_token(inputs)}
    return inputs | cut


@torch.inference_mode()
def step_after(model: Any, inputs: dict[str, Any], tokens: Sequence[int]) -> Tensor:
    """Return `(V,)` float64 log-probabilities after a prompt and tokens behind it."""
    if "PaliGemma" not in type(model).__name__:
        return logits_of(model, continued(inputs, tokens))[-1]
    wanted = iter(tokens)  # its prompt would see the tokens

    def forced(_: Tensor, scores: Tensor) -> Tensor:
        only = torch.full_like(scores, -torch.inf)
        only[:, next(wanted, 0)] = 0.0
        return only

    limits = {"max_new_tokens": len(tokens) + 1, "do_sample": False}
    out = model.generate(
        **inputs, **limits, logits_processor=[forced], output_logits=True, return_dict_in_generate=True
    )
    last: Tensor = out.logits[-1][0].double().log_softmax(-1)
    return last


def letters_at(logprobs: Tensor, texts: Sequence[str], rest: str = "") -> Tensor:
    """Return `(36,)` log-probabilities of `rest` and a capital being written in one token, whatever follows."""
    sums = torch.zeros(len(MARKS), dtype=torch.float64)
    for token, text in enumerate(texts):
        letter = ONE_LETTER.fullmatch(text[len(rest) :]) if text.startswith(rest) else None
        if letter:
            sums[MARKS.index(letter[1])] += logprobs[token].exp()
    return sums.log()


def letters_that_end(
    model: Any,
    inputs: dict[str, Any],
    tokens: Sequence[int],
    logprobs: Tensor,
    texts: Sequence[str],
    *,
    rest: str = "",
    reached: float = 0.0,
    shown: str = string.ascii_uppercase,
) -> Tensor:
    """Return the same of both cases, where a letter of `shown` ends: P(token) times P(what follows ends it).

    One forward per token; a letter that is not shown is counted if it is a capital, or ends within its token.

    Args:
        model, inputs: the model and the prompt.
        tokens: what is written behind it.
        logprobs: of the step after that.
        texts: what each token stands for.
        rest: what a token has to begin with.
        reached: log-probability of the way here, which counts where a token has to be likely to be looked past.
        shown: the letters that are looked past.
    """

    def ending(token: int, letter: str, tail: str) -> float:
        likely = reached + float(logprobs[token]) >= LEAST
        if letter.upper() not in shown or not likely:
            return 0.0 if letter in MARKS else -math.inf
        after = step_after(model, inputs, [*tokens, token])
        # Logits beyond the vocabulary belong to tokens without a text.
        following = [*texts, *[""] * (len(after) - len(texts))][: len(after)]
        return float(
            torch.stack([after[t] for t, text in enumerate(following) if ends(letter, tail + text)]).logsumexp(0)
        )

    return _summed(logprobs, texts, rest, ending)


def _summed(logprobs: Tensor, texts: Sequence[str], rest: str, ending: Callable[[int, str, str], float]) -> Tensor:
    sums = torch.zeros(len(MARKS), dtype=torch.float64)
    for token, text in enumerate(texts):
        found = EITHER_CASE.fullmatch(text[len(rest) :]) if text.startswith(rest) else None
        if found is None:
            continue
        letter, tail = found.groups()
        whole = ends(letter, tail + "x") and ends(letter, tail + "5")
        sums[MARKS.index(letter.upper())] += math.exp(
            float(logprobs[token]) + (0.0 if whole else ending(token, letter, tail))
        )
    return sums.log()


def forced_letters(
    processor: Any,
    model: Any,
    text: str,
    images: Sequence[Any],
    texts: Sequence[str],
    shown: str = "",
    *,
    gaps: bool = True,
) -> Tensor:
    """Return `(36,)` log-probabilities of a letter after `text`, over all ways to cut the text's end into tokens.

    Those of `shown` are looked past, see `letters_that_end`; with none, capitals are counted whatever follows. Without
    `gaps`, only those that follow the whole text are.
    """
    tokenizer = processor.tokenizer
    inputs = inputs_of(processor, text, images)
    logprobs = logits_of(model, inputs)
    alone = tokenizer(text, add_special_tokens=False)["input_ids"]
    back = 0
    for letter in MARKS:
        for space in ("", " "):
            other = tokenizer(text + space + letter, add_special_tokens=False)["input_ids"]
            same = 0
            while same < min(len(alone), len(other)) and alone[same] == other[same]:
                same += 1
            back = max(back, len(alone) - same)
    last = inputs["input_ids"][0].tolist()
    ways = []
    for place in range(back + 1):
        kept = last[len(last) - back :][:place]
        rest = "".join(texts[token] for token in last[len(last) - back + place :])
        first = len(last) - 1 - back
        reached = sum(float(logprobs[first + step, token]) for step, token in enumerate(kept))
        here, before = logprobs[first + place], shortened(inputs, back - place)
        if shown:
            looked = shown if gaps or place == back else ""
            letters = letters_that_end(model, before, [], here, texts, rest=rest, reached=reached, shown=looked)
        else:
            letters = letters_at(here, texts, rest)
        ways.append(reached + letters)
    return torch.stack(ways).logsumexp(0)
