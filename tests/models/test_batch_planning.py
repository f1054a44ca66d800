from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from vlmrobust import Prompt, Sample
from vlmrobust.models.batch_planning import Batch, Family, Queue, plan
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
        assert batch.tokens == longest * batch.rows
        assert batch.rows == 1 or (batch.tokens <= max_tokens and (max_rows is None or batch.rows <= max_rows))
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
