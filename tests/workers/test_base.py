import pickle
from functools import partial

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


def no_model(**settings):
    return len(settings)


class NoModel:
    def __call__(self):
        return 3


@pytest.mark.parametrize(
    ("given", "name"), [(no_model, "no_model"), (partial(no_model, api_key="sk-1"), "no_model"), (NoModel(), "NoModel")]
)
def test_a_function_is_told_by_its_name_alone_since_its_arguments_may_be_secret(given, name):
    with pytest.raises(TypeError) as raised:
        ModelSource(given).model  # noqa: B018
    assert str(raised.value).startswith(f"{name}: expected it to return a model")
    assert "sk-1" not in str(raised.value)
