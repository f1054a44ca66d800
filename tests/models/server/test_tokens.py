"""Letters read from the top k, compared with values computed by hand."""

import math
from types import SimpleNamespace as Obj

import pytest
from openai_server import make_entry

from vlmrobust.models.server.tokens import Step


def test_a_letters_tokens_are_summed_and_others_are_not():
    top = [(b"A", -1.0), (b" A", -2.0), (b"(A", -3.0), (b"An", -1.5), (b"B", -4.0), (b"a", -2.5)]
    step = Step.of(make_entry(b"A", -1.0, top))
    letters = step.letters()
    assert letters[0] == pytest.approx(math.log(math.exp(-1) + math.exp(-2) + math.exp(-3)))
    assert letters[1] == pytest.approx(-4.0)
    assert all(letter == -math.inf for letter in letters[2:])
    assert step.floor == -4.0


def test_a_sampled_token_outside_the_top_k_counts_but_is_no_bound():
    step = Step.of(make_entry(b"C", -9.0, [(b"A", -0.5), (b"B", -1.5)]))
    assert step.letters()[2] == -9.0
    assert step.floor == -1.5


def test_a_token_without_log_probability_keeps_its_position():
    step = Step.of(make_entry(b"C", None, [(b"A", -0.5), (b"B", None)]))
    assert (step.token, step.logprobs, step.floor) == (b"C", {b"A": -0.5}, -0.5)
    assert Step.of(make_entry(b"C", None, [(b"C", -0.5)])).logprobs == {b"C": -0.5}
    unknown = Step.of(Obj(token="C", logprob=None, bytes=None))
    assert (unknown.token, unknown.logprobs, unknown.floor) == (b"C", {}, None)


@pytest.mark.parametrize("with_bytes", [True, False])
def test_without_bytes_the_tokens_text_is_used(with_bytes):
    step = Step.of(make_entry(b" B", -0.2, [(b" B", -0.2)], with_bytes))
    assert (step.token, step.letters()[1]) == (b" B", -0.2)


def test_a_sampled_token_that_replaces_the_last_of_the_top_k_is_no_bound():
    """vLLM returns the sampled token first, then the likeliest, as many as requested in total."""
    pushed = Step.of(make_entry(b"C", -9.0, [(b"C", -9.0), (b"A", -0.5), (b"B", -1.5)]))
    assert pushed.floor == -1.5  # the third one is missing and may be as likely as the second
    assert pushed.letters()[2] == -9.0
    within = Step.of(make_entry(b"B", -1.5, [(b"B", -1.5), (b"A", -0.5), (b"C", -9.0)]))
    assert within.floor == -9.0
    greedy = Step.of(make_entry(b"A", -0.5, [(b"A", -0.5), (b"B", -1.5), (b"C", -9.0)]))
    assert greedy.floor == -9.0
    assert Step.of(make_entry(b"A", -0.5, [(b"A", -0.5)])).floor == -0.5


def test_a_token_id_with_the_text_as_bytes_is_read():
    """As mistralrs sends them."""
    top = [Obj(token=362, logprob=-0.2, bytes=" A"), Obj(token=425, logprob=-2.0, bytes=" B")]
    step = Step.of(Obj(token=" A", logprob=-0.2, bytes=[32, 65], top_logprobs=top))
    assert step.logprobs == {b" A": -0.2, b" B": -2.0}
    assert (step.letters()[:2], step.floor) == ([-0.2, -2.0], -2.0)


def test_requested_tokens_have_no_floor_and_may_have_no_probability():
    top = [(b"B", -9.0), (b"A", -0.5), (b" A", None)]
    step = Step.of(make_entry(b"B", -9.0, top), exact=True)
    assert (step.floor, step.exact, step.tells_letters) == (None, True, True)
    assert step.letters()[:2] == [-0.5, -9.0]
    assert step.missing("ABC") == "C"
    assert not Step.of(make_entry(b"B"), exact=True).tells_letters  # nothing came back


def test_a_log_probability_slightly_above_zero_is_rounded_down():
    assert Step.of(make_entry(b"A", 2e-4)).logprobs == {b"A": 0.0}
