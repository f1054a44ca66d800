"""Complete names on the command line: conditions, metrics, styles, judges, benchmarks, dtypes."""

from collections.abc import Iterable

from ..catalogue import STYLES
from ..metrics import JudgedMetric
from ..metrics.catalogue import METRICS
from ..perturbations.catalogue import CONDITIONS, FROM_SAMPLES

__all__ = [
    "complete_benchmarks",
    "complete_conditions",
    "complete_dtypes",
    "complete_judged_metrics",
    "complete_judges",
    "complete_metrics",
    "complete_styles",
    "complete_writers",
]


def _completed(incomplete: str, names: Iterable[str], separators: str) -> list[str]:
    """Return the completions of a list of names: those of its last name, each after the names before it."""
    start = max(incomplete.rfind(separator) for separator in separators) + 1
    return [incomplete[:start] + name for name in names if name.startswith(incomplete[start:])]


def complete_styles(incomplete: str) -> list[str]:
    """Return the styles that a prefix completes to.

    Example:
        >>> complete_styles("vi")
        ['video_r1', 'vigorl_spatial', 'vision_r1']
    """
    return [name for name in STYLES if name.startswith(incomplete)]


def complete_conditions(incomplete: str) -> list[str]:
    """Complete the last of several conditions, separated by commas or plus signs.

    Example:
        >>> complete_conditions("blank_image,wrong_think+abs")
        ['blank_image,wrong_think+abstain_option']
    """
    return _completed(incomplete, (*CONDITIONS, *FROM_SAMPLES), ",+")


def complete_metrics(incomplete: str) -> list[str]:
    """Complete the last of several metrics, separated by commas."""
    return _completed(incomplete, METRICS, ",")


def complete_judged_metrics(incomplete: str) -> list[str]:
    """Complete the last of several metrics that depend on the judge, separated by commas.

    Example:
        >>> complete_judged_metrics("consistency,consistent_c")
        ['consistency,consistent_correct']
    """
    return _completed(incomplete, [name for name, one in METRICS.items() if isinstance(one, JudgedMetric)], ",")


def complete_judges(incomplete: str) -> list[str]:
    """Return the judges and prefixes of judges that a prefix completes to."""
    return [name for name in ("rules", "self", "hf:", "vllm:", "openai:") if name.startswith(incomplete)]


def complete_writers(incomplete: str) -> list[str]:
    """Return the prefixes of text writers that a prefix completes to."""
    return [name for name in ("hf:", "vllm:", "openai:") if name.startswith(incomplete)]


def complete_benchmarks(incomplete: str) -> list[str]:
    """Return the published benchmarks that a prefix completes to."""
    from ..data import BENCHMARKS

    return [name for name in BENCHMARKS if name.startswith(incomplete)]


def complete_dtypes(incomplete: str) -> list[str]:
    """Return the dtypes that a prefix completes to."""
    return [name for name in ("auto", "bfloat16", "float16", "float32") if name.startswith(incomplete)]
