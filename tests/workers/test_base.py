import pickle

import pytest
from counted import CONDITIONS, METRICS, SAMPLES

from vlmrobust import Evaluator
from vlmrobust.testing import FakeModel
from vlmrobust.workers.base import ModelSource

made = []


def make():
    made.append(FakeModel(opens_images=False))
    return made[-1]


def test_a_function_that_returns_the_model_is_called_once_and_late():
    made.clear()
    evaluator = Evaluator(make, CONDITIONS, METRICS)
    assert made == []
    evaluator.run(SAMPLES[:2])
    evaluator.run(SAMPLES[:2])
    assert evaluator.model is made[0]
    assert len(made) == 1


def test_another_process_makes_a_model_of_its_own():
    made.clear()
    source = ModelSource(make)
    assert source.model is made[0]
    assert pickle.loads(pickle.dumps(source)).model is made[1]


def test_a_function_that_returns_no_model_is_told_so():
    with pytest.raises(TypeError, match=r"expected it to return a model with respond\(prompts\).*, got int"):
        Evaluator(lambda: 3, CONDITIONS).run(SAMPLES[:1])
