from hypothesis import given
from hypothesis import strategies as st

from vlmrobust import Style
from vlmrobust.perturbations import Base
from vlmrobust.workers.plan import RunPlan, shard


@given(number=st.integers(0, 50), world_size=st.integers(1, 12))
def test_shards_are_disjoint_complete_and_balanced(number, world_size):
    batches = list(range(number))
    shares = [list(shard(batches, rank, world_size)) for rank in range(world_size)]
    assert sorted(batch for share in shares for batch in share) == batches
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


@given(number=st.integers(1, 40), size=st.integers(1, 12))
def test_batches_depend_only_on_samples_and_batch_size(number, size):
    plan = RunPlan((Base(),), Style(), 1, size, 0, "random", "record")
    samples = [object() for _ in range(number)]
    batches = plan.batches(samples)
    assert [sample for batch in batches for sample in batch.samples] == samples
    assert {len(batch.samples) for batch in batches[:-1]} <= {size}
    assert [batch.start for batch in batches] == list(range(0, number, size))
