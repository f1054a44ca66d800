"""What a model has computed, and what it did not have to."""

from dataclasses import dataclass

__all__ = ["Work"]


@dataclass(slots=True)
class Work:
    """Counts of tokens and of row-steps: a row that goes through the model once, to decode a token.

    Attributes:
        prompt_tokens: of all prompts, images included.
        shared_tokens: those of them that another prompt of the sample had, and that were not computed again.
        row_steps: row-steps that were taken, and tokens that were looked at behind letters.
        dropped_row_steps: those that were not, because a text had ended before the longest that came in with it.
        texts: how many were decoded.
        refilled_texts: those of them that came in beside others that were being decoded.
    """

    prompt_tokens: int = 0
    shared_tokens: int = 0
    row_steps: int = 0
    dropped_row_steps: int = 0
    texts: int = 0
    refilled_texts: int = 0

    def shares(self) -> dict[str, float]:
        """Return what was saved as shares: of the prompts' tokens, of the row-steps, and of the texts; JSON values.

        Example:
            >>> Work(prompt_tokens=800, shared_tokens=600, row_steps=30, dropped_row_steps=10).shares()
            {'shared_share': 0.75, 'dropped_share': 0.25, 'refilled_share': 0.0}
        """
        return {
            "shared_share": _share(self.shared_tokens, self.prompt_tokens),
            "dropped_share": _share(self.dropped_row_steps, self.row_steps + self.dropped_row_steps),
            "refilled_share": _share(self.refilled_texts, self.texts),
        }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
