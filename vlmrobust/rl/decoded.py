"""What a policy wrote, in texts that trainers decode with special tokens and with the prompt in front."""

import re

from ..prompting import KNOWN_TOKENS

__all__ = ["completion_in", "without_end"]

_FEWEST = 16
_END = re.compile(rf"(?:\s*(?:{KNOWN_TOKENS.pattern.pattern}))+\s*\Z")


def without_end(completion: str) -> str:
    """Return a completion without the special tokens that end its turn and fill its batch.

    Example:
        >>> without_end("<think>Blue.</think><answer>B</answer><|im_end|><|endoftext|>")
        '<think>Blue.</think><answer>B</answer>'
    """
    return _END.sub("", completion)


def completion_in(query: str, prompt: str) -> str:
    r"""Return what follows the prompt in a query, which holds the prompt as it was tokenized.

    A processor writes an image's place out in many tokens, and a long prompt may be cut at its beginning: so as much of
    the prompt's end is looked for as can be found.

    Args:
        query: prompt and completion, decoded together.
        prompt: the prompt as it was before it was tokenized.

    Raises:
        ValueError: the end of the prompt does not stand in the query.

    Example:
        >>> prompt = "<|im_start|>user\n<image>Which?<|im_end|>\n<|im_start|>assistant\n"
        >>> completion_in(prompt.replace("<image>", "<image>" * 9) + "B<|im_end|>", prompt)
        'B<|im_end|>'
    """
    least, most = min(_FEWEST, len(prompt)), len(prompt)
    if prompt[most - least :] not in query:
        raise ValueError(f"expected a query with the end of its prompt, {prompt[-60:]!r}, in it, got {query[-200:]!r}")
    while least < most:  # an end that stands in the query has ends that do
        middle = (least + most + 1) // 2
        if prompt[len(prompt) - middle :] in query:
            least = middle
        else:
            most = middle - 1
    return query[query.index(prompt[len(prompt) - least :]) + least :]
