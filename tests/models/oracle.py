"""Plain Hugging Face forwards, one prompt at a time, and letters found by looking at every token of the vocabulary."""

import re
import string
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vlmrobust import Prompt
from vlmrobust.types import open_image

MARKS = string.ascii_uppercase + string.digits
ONE_LETTER = re.compile(r"[\W_]*([A-Z0-9])[\W_]*")


def rendered(processor: Any, prompt: Prompt) -> str:
    """Return the chat template's own rendering and the prefill."""
    text = processor.apply_chat_template(prompt.messages(), add_generation_prompt=True, tokenize=False)
    return str(text) + prompt.prefill


def inputs_of(processor: Any, text: str, images: Sequence[Any]) -> dict[str, Any]:
    """Return what the processor makes of one prompt."""
    # Nested, as for a batch of one: LLaVA-OneVision takes a flat list for that many samples of one image each.
    opened = [[open_image(image) for image in images]] if images else None
    inputs = dict(processor(text=[text], images=opened, return_tensors="pt", add_special_tokens=False))
    inputs.pop("labels", None)
    return inputs


def continued(inputs: dict[str, Any], tokens: Sequence[int]) -> dict[str, Any]:
    """Return a prompt's inputs with generated tokens behind it."""
    more = len(tokens)
    grown = dict(inputs)
    grown["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([list(tokens)])], dim=1)
    grown["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones(1, more, dtype=torch.int64)], dim=1)
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in inputs:  # generated tokens are text
            grown[name] = torch.cat([inputs[name], torch.zeros(1, more, dtype=inputs[name].dtype)], dim=1)
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


def letters_at(logprobs: Tensor, texts: Sequence[str], rest: str = "") -> Tensor:
    """Return `(36,)` log-probabilities of `rest` and a letter being written in one token."""
    sums = torch.zeros(len(MARKS), dtype=torch.float64)
    for token, text in enumerate(texts):
        letter = ONE_LETTER.fullmatch(text[len(rest) :]) if text.startswith(rest) else None
        if letter:
            sums[MARKS.index(letter[1])] += logprobs[token].exp()
    return sums.log()


def forced_letters(processor: Any, model: Any, text: str, images: Sequence[Any], texts: Sequence[str]) -> Tensor:
    """Return `(36,)` log-probabilities of a letter after `text`, over all ways to cut the text's end into tokens."""
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
        ways.append(reached + letters_at(logprobs[first + place], texts, rest))
    return torch.stack(ways).logsumexp(0)
