"""Determine what the text of a condition asserts, and where it is."""

from ..perturbations.texts import quotable
from ..types import Responses
from .pairing import UNSCORED, Unit

__all__ = ["assertion_of"]


def assertion_of(responses: Responses, unit: Unit) -> tuple[str, str]:
    """Return what the text of a condition asserts, and where it is.

    Args:
        responses: all of them.
        unit: the condition's.

    Returns:
        "wrong", "true", "neutral", "doubt" (a reply without an assertion), or "" if unknown; and "think", "caption" or
        "reply".
    """
    rows = [int(row) for row in unit.rows if responses.status[row] not in UNSCORED]
    asserting = [row for row in rows if responses.asserted[row] >= 0]
    if not asserting:
        is_reply = any(responses.history[row] for row in rows)
        where = "think" if any(responses.prefill[row] for row in rows) else "reply" if is_reply else "caption"
        return "neutral" if unit.condition.startswith("neutral_") else "doubt" if where == "reply" else "", where
    in_turn = sum(_asserts_in_turn(responses, row) for row in asserting)
    is_reply = any(responses.history[row] for row in asserting)
    where = "think" if in_turn > len(asserting) / 2 else "reply" if is_reply else "caption"
    return "true" if (responses.asserted == responses.target)[asserting].all() else "wrong", where


def _asserts_in_turn(responses: Responses, row: int) -> bool:
    """Return whether the assertion is in the assistant's turn, not before the question or in the user's reply.

    With text in both places, it is in the turn if the turn mentions the option outside its quotation of the question.
    """
    prefill, order = responses.prefill[row], responses.order[row]
    if not (prefill and (responses.context[row] or responses.history[row])):
        return bool(prefill)
    from ..prompting.mentions import Reading  # slow to import: it compiles many patterns

    thought = prefill.replace(quotable(responses.question[row]), " ")
    reading = Reading.of(thought, responses.options[row])
    named = {mention.option for mention in reading.mentions(0, len(thought))}
    return any(option is not None and order[option] == int(responses.asserted[row]) for option in named)
