from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vlmrobust.prompting.words import Stems, occurrences

STEMS = ("so", "conclu", "n't", "答案", "hold on", "no ", "i think")
PIECES = st.lists(
    st.sampled_from(
        ["so", "also,", "isn't", "hold", "on", "onto", "no", "know", "(conclusion)", "所以答案是", "i", "think"]
    )
)
TEXTS = st.tuples(PIECES, st.sampled_from([" ", "\n", "  ", ""])).map(lambda drawn: drawn[1].join(drawn[0]))


@given(TEXTS)
def test_every_stem_that_occurs_is_present(text):
    present = Stems(STEMS).present(text)
    assert {stem for stem in STEMS if stem in text} <= present
    assert {stem for stem in present if " " not in stem} == {stem for stem in STEMS if " " not in stem and stem in text}


@given(st.lists(TEXTS, min_size=1))
def test_what_was_read_before_does_not_matter(texts):
    used = Stems(STEMS)
    for text in texts:
        assert used.present(text) == Stems(STEMS).present(text)


@given(st.text("ab", max_size=12), st.text("ab", min_size=1, max_size=2))
def test_occurrences_are_all_there_without_overlaps(text, part):
    places = list(occurrences(text, part))
    assert len(places) == text.count(part)
    assert all(text.startswith(part, place) for place in places)
    assert all(after - before >= len(part) for before, after in pairwise(places))
