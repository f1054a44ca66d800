"""Batches, and the packing of suffixes and stems, which is compared with exhaustive search."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust import Prompt, Sample
from vlmrobust.models.batch_planning import Batch, Family, Packing, Queue, Segment, packed, plan
from vlmrobust.models.encoding import Rendered


def family_of(sample: Sample, rows: int, suffix: int, images: int, first: int, prefix: int) -> Family:
    items = tuple(Rendered(Prompt.of(sample), "", (object(),) * images) for _ in range(rows))
    return Family(items, tuple(range(first, first + rows)), prefix, ((1,) * suffix,) * rows)


shapes = st.lists(
    st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(0, 2), st.sampled_from([0, 5, 30])),
    min_size=1,
    max_size=12,
)


@given(shapes=shapes, max_tokens=st.integers(1, 400), max_rows=st.none() | st.integers(1, 9))
def test_every_prompt_is_planned_once_within_the_limits(
    shapes: list[tuple[int, int, int, int]],
    max_tokens: int,
    max_rows: int | None,
    make_sample: Callable[..., Sample],
) -> None:
    sample, found, first = make_sample(), [], 0
    for rows, suffix, images, prefix in shapes:
        found.append(family_of(sample, rows, suffix, images, first, prefix))
        first += rows

    def length(family: Family) -> int:
        return family.prefix + len(family.suffixes[0])

    queues = plan(found, length, max_tokens=max_tokens, max_rows=max_rows)
    batches = []
    for queue in queues:
        kinds = [family for _, family in queue.waiting]
        assert len({len(family.items[0].images) for family in kinds}) == 1
        assert len({family.prefix > 0 for family in kinds}) == 1
        batches += drained(queue)
    positions = [position for batch in batches for family in batch.families for position in family.positions]
    assert sorted(positions) == list(range(first))
    for batch in batches:
        # All prefixes go through the model padded to the longest, and then all suffixes.
        longest = max(family.prefix for family in batch.families)
        longest += max(len(family.suffixes[0]) for family in batch.families)
        assert batch.longest == longest
        assert batch.rows == 1 or (batch.rows * longest <= max_tokens and (max_rows is None or batch.rows <= max_rows))
        assert [family.positions for single in batch.singly() for family in single.families] == [
            (position,) for family in batch.families for position in family.positions
        ]


def drained(queue: Queue) -> list[Batch]:
    """Return what is taken where each batch has left before the next comes in."""
    return list(iter(queue.take, None))


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=15),
    max_tokens=st.integers(1, 300),
    max_rows=st.none() | st.integers(1, 9),
    data=st.data(),
)
def test_what_comes_in_beside_others_keeps_within_the_limits(
    lengths: list[int], max_tokens: int, max_rows: int | None, data: st.DataObject, make_sample: Callable[..., Sample]
) -> None:
    sample = make_sample()
    found = [family_of(sample, 1, length, 1, place, 0) for place, length in enumerate(lengths)]
    [queue] = plan(found, lambda family: len(family.suffixes[0]), max_tokens=max_tokens, max_rows=max_rows)
    inside: list[int] = []
    seen = 0
    while queue.waiting or inside:
        batch = queue.take(len(inside), max(inside, default=0))
        if batch is not None:
            seen += batch.rows
            inside += [len(family.suffixes[0]) for family in batch.families]
        elif queue.waiting:  # nothing is left out that would fit
            beside = max([*inside, queue.waiting[0][0]])
            rows = len(inside) + 1
            assert rows * beside > max_tokens or (max_rows is not None and rows > max_rows)
        assert len(inside) == 1 or len(inside) * max(inside) <= max_tokens
        assert max_rows is None or len(inside) <= max_rows
        for _ in range(data.draw(st.integers(1, len(inside)))):
            inside.pop(data.draw(st.integers(0, len(inside) - 1)))
    assert seen == len(lengths)


def test_prompts_of_similar_length_go_together(make_sample: Callable[..., Sample]) -> None:
    lengths = [10, 100, 11, 90, 12, 95]
    found = [family_of(make_sample(), 1, length, 1, place, 0) for place, length in enumerate(lengths)]
    [queue] = plan(found, lambda family: len(family.suffixes[0]), max_tokens=300)
    batches = drained(queue)
    assert [[family.positions[0] for family in batch.families] for batch in batches] == [[1, 5, 3], [4, 2, 0]]


def partitions(lengths: Sequence[int]) -> list[list[list[int]]]:
    if not lengths:
        return [[]]
    return [[list(lengths[:end]), *rest] for end in range(1, len(lengths) + 1) for rest in partitions(lengths[end:])]


@given(
    rows=st.dictionaries(st.integers(1, 400), st.integers(1, 12), min_size=1, max_size=7),
    pass_cost=st.sampled_from([0, 30, 256, 10**9]),
)
def test_suffixes_run_in_the_cheapest_passes(rows: dict[int, int], pass_cost: int) -> None:
    def cost(passes: list[list[int]]) -> int:
        return sum(pass_cost + max(lengths) * sum(rows[length] for length in lengths) for lengths in passes)

    found = packed(rows, pass_cost)
    assert sorted(length for lengths in found for length in lengths) == sorted(rows)
    assert cost(found) == min(map(cost, partitions(sorted(rows))))


def packing(**changes: Any) -> Packing:
    settings: dict[str, Any] = {
        "stems_padded": True,
        "ends_padded": True,
        "fits": lambda rows, columns: True,
        "pass_cost": 0,
    }
    return Packing(**settings | changes)


def paths(segments: Sequence[Segment], before: tuple[int, ...] = ()) -> Iterator[tuple[int, tuple[int, ...], int]]:
    """Yield every prompt with all of its tokens, and how many of them are in no stem."""
    for segment in segments:
        assert segment.tokens
        assert (segment.prompt == -1) is bool(segment.segments)
        if segment.segments:
            assert len(segment.segments) > 1
            yield from paths(segment.segments, before + segment.tokens)
        else:
            yield segment.prompt, before + segment.tokens, len(segment.tokens)


def computed(segments: Sequence[Segment]) -> int:
    return sum(len(segment.tokens) + computed(segment.segments) for segment in segments)


def distinct(suffixes: Mapping[int, Sequence[int]], places: int) -> int:
    """Count the tokens that no way can avoid: those that differ in something before, and all that are read."""
    heads = {tuple(tokens[:end]) for tokens in suffixes.values() for end in range(1, len(tokens) - places + 1)}
    return len(heads) + places * len(suffixes)


def some_suffixes(places: int) -> st.SearchStrategy[dict[int, list[int]]]:
    tokens = st.lists(st.integers(1, 2), min_size=places, max_size=places + 9)
    return st.lists(tokens, min_size=1, max_size=7).map(lambda rows: dict(enumerate(rows)))


@given(data=st.data(), places=st.integers(1, 3), pass_cost=st.integers(0, 40), padded=st.booleans())
def test_every_prompt_keeps_its_tokens_and_its_last_are_in_no_stem(
    data: st.DataObject, places: int, pass_cost: int, padded: bool
) -> None:
    suffixes = data.draw(st.lists(some_suffixes(places), min_size=1, max_size=3))
    made = packing(pass_cost=pass_cost, stems_padded=padded, ends_padded=padded)
    found = made.segments(suffixes, places)
    for some, segments in zip(suffixes, found, strict=True):
        assert {prompt: tokens for prompt, tokens, _ in paths(segments)} == {p: tuple(t) for p, t in some.items()}
        assert len(list(paths(segments))) == len(some)
        assert all(own >= places for _, _, own in paths(segments))
        assert computed(segments) == sum(map(len, some.values())) - sum(segment.saved for segment in segments)
        assert computed(segments) >= distinct(some, places)


QUESTION, CAPTION, THOUGHT = list(range(100, 160)), list(range(200, 230)), list(range(300, 340))


def conditions(draws: int) -> dict[int, list[int]]:
    """Return suffixes like those of real conditions: with and without a caption and a begun thought, several draws."""
    kinds = [QUESTION, QUESTION + THOUGHT, QUESTION + THOUGHT + [7, 8], CAPTION + QUESTION, [9, *QUESTION]]
    return dict(enumerate([*kind, 1] for kind in kinds for _ in range(draws)))


def test_nested_stems_leave_the_fewest_tokens() -> None:
    suffixes = conditions(draws=12)
    [segments] = packing().segments([suffixes], 1)
    assert computed(segments) == distinct(suffixes, 1)
    question = next(segment for segment in segments if segment.prompts == 36)
    assert question.tokens == tuple(QUESTION)
    assert sum(not segment.segments for segment in question.segments) == 12  # the draws without a thought
    [thought] = [segment for segment in question.segments if segment.segments]
    assert thought.tokens == tuple(THOUGHT)


def test_short_beginnings_are_no_stems_of_their_own() -> None:
    suffixes = {0: [1, 2, *QUESTION], 1: [1, 2, *QUESTION, 5], 2: [1, 2, *CAPTION], 3: [1, 9]}
    [segments] = packing().segments([suffixes], 1)
    assert sorted((len(segment.tokens), segment.prompts) for segment in segments) == [(2, 1), (32, 1), (61, 2)]


def test_a_stem_has_to_be_worth_its_pass() -> None:
    def stems(**changes: Any) -> int:
        samples = [conditions(draws=1) for _ in range(changes.pop("samples", 1))]
        found = packing(**changes).segments(samples, 1)
        return sum(bool(segment.segments) for segments in found for segment in segments)

    assert stems(pass_cost=0) == 1
    assert stems(pass_cost=256) == 0
    assert stems(pass_cost=256, samples=8) == 8  # one pass for all samples
    # Texts that could not be put together again are not taken apart.
    assert stems(pass_cost=10**12, samples=8) == 0


def test_suffixes_are_not_split_if_a_pass_would_not_fit() -> None:
    seen = []

    def fits(rows: int, columns: int) -> bool:
        seen.append((rows, columns))
        return columns <= 101

    without = packing(fits=fits).segments([conditions(draws=1)], 1)
    assert not any(segment.segments for segments in without for segment in segments)
    assert max(columns for _, columns in seen) > 101
    assert any(segment.segments for segments in packing().segments([conditions(draws=1)], 1) for segment in segments)


@pytest.mark.parametrize("padded", [False, True])
def test_one_pass_takes_stems_or_ends_and_one_length_where_nothing_is_padded(padded: bool) -> None:
    made = packing(stems_padded=padded, ends_padded=padded, pass_cost=20)
    [segments] = packing().segments([conditions(draws=12)], 1)
    level = [segment for segment in segments for segment in (segment, *segment.segments)]
    passes = made.passes(level)
    assert sorted(place for places in passes for place in places) == list(range(len(level)))
    kinds = [{bool(level[place].segments) for place in places} for places in passes]
    assert all(len(kind) == 1 for kind in kinds)
    assert not any(later > earlier for (earlier,), (later,) in pairwise(kinds)), "stems come first"
    if not padded:
        assert all(len({len(level[place].tokens) for place in places}) == 1 for places in passes)
