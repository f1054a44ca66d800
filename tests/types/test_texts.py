"""`Texts` share their content with the thoughts and behave like tuples."""

import pickle
import random
from operator import add

import pytest

from vlmrobust.types.responses import Texts, within_thoughts

# Thought, own part, completion: usual and degenerate ones.
ROWS = [
    ("It is red.", "It is red.", "<think>It is red.</think><answer>A</answer>"),
    ("You said blue. It is red.", "It is red.", "It is red.</think><answer>A</answer>"),
    ("You said blue.", "", "</think><answer>B</answer>"),
    ("", "", "B"),
    ("", "", ""),
    ("own first, then more", "own first", "own first and something else"),  # the own part is not the end
    ("a a", "a", "a b a"),  # the text contains it twice
    ("红 👍", "👍", "<think>👍</think>"),
    ("thought", "thought", "cut before the tho"),  # not in the text
]
THOUGHTS, OWN, COMPLETIONS = (tuple(column) for column in zip(*ROWS, strict=True))


@pytest.fixture
def shared_texts():
    return within_thoughts(THOUGHTS, OWN, COMPLETIONS)


def test_texts_equal_the_originals(shared_texts):
    for found, expected in zip(shared_texts, (OWN, COMPLETIONS), strict=True):
        assert isinstance(found, Texts)
        assert list(found) == list(expected)
        assert [found[row] for row in range(-len(ROWS), len(ROWS))] == [*expected, *expected]
        assert found == expected == found
        assert found != expected[:-1]
        assert found != (*expected[:-1], "other")
        assert (found[2:5], found[::-2], repr(found)) == (expected[2:5], expected[::-2], repr(expected))
        assert (add(found, ("x",)), add(("x",), found)) == ((*expected, "x"), ("x", *expected))
        assert "B" not in found[:3]
        assert pickle.loads(pickle.dumps(found)) == expected
        with pytest.raises(IndexError):
            found[len(ROWS)]
        with pytest.raises(TypeError, match="unhashable"):
            hash(found)


def test_taken_and_joined(shared_texts):
    rows = random.Random(0).choices(range(len(ROWS)), k=30)
    for found, expected in zip(shared_texts, (OWN, COMPLETIONS), strict=True):
        assert found.taken(rows) == tuple(expected[row] for row in rows)
        assert found.taken([]) == ()
        assert Texts.joined([found, found.taken([1]), found.taken([])]) == (*expected, expected[1])


def test_text_of_the_thought_is_not_stored_again():
    thought = "word " * 1000 + "end"
    own, text = within_thoughts((f"injected {thought}",), (thought,), (f"<think>{thought}</think>",))
    assert own.before == own.after == ("",)
    assert (text.before, text.after) == (("<think>",), ("</think>",))
    assert own.longer is text.longer
