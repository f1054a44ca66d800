"""Provide a model with planted behaviour, and conformance checks for custom classes."""

from .extension_checks import check_metric, check_perturbation
from .fake_model import FakeModel
from .model_checks import check_model

__all__ = ["FakeModel", "check_metric", "check_model", "check_perturbation"]
