"""What was said in one turn of a chat, before the turn that a model is asked for."""

from collections.abc import Sequence
from typing import Literal

from .validated import Frozen

__all__ = ["Turn", "order_problem"]


class Turn(Frozen):
    """One turn of a chat, as it was said.

    Attributes:
        role: who said it, the "user" or the "assistant".
        text: what was said; of the assistant, the whole turn, tags included.

    Example:
        >>> Turn(role="user", text="Are you sure?")
        Turn(role='user', text='Are you sure?')
    """

    role: Literal["user", "assistant"]
    text: str


def order_problem(history: Sequence[Turn]) -> tuple[str, str, object] | None:
    """Return what is wrong with the turns behind a question: the field, what was expected, what came; None = nothing.

    Example:
        >>> order_problem([Turn(role="user", text="Are you sure?")])
        ('history.0', 'the assistant and the user in turn', 'user')
    """
    for place, turn in enumerate(history):
        if turn.role != ("assistant", "user")[place % 2]:
            return f"history.{place}", "the assistant and the user in turn", turn.role
        if not turn.text.strip():
            return f"history.{place}", "a text", turn.text
    if len(history) % 2:
        return f"history.{len(history) - 1}", "the user at the end, whom the model is to answer", history[-1].role
    return None
