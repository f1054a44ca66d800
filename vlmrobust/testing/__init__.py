"""A model with planted behaviour, and conformance checks that you can run on your own classes."""

from .fake_model import FakeModel
from .metric_checks import check_metric
from .model_checks import check_model
from .perturbation_checks import check_perturbation

__all__ = ["FakeModel", "check_metric", "check_model", "check_perturbation"]
