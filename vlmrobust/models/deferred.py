"""A checkpoint that has answered in a run before, and is loaded when something is left to be asked."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..prompting import SpecialTokens
from ..secrecy import error_text
from ..types import Prompt, Response, Style
from .base import Model, RefusedError, expect, identity_of, special_tokens_of, work_of

__all__ = ["DeferredModel"]


class DeferredModel:
    """The model of a run that is gone on with: the run knows what it is, and loading waits for the first prompt.

    So a run in which all is answered takes no weights.

    Args:
        load: loads it.
        identity: as the run has it.
        special_tokens: finds what is made inert in prompts, without weights; where it cannot, the model is asked.
        check: refuses the loaded model's identity where it is not that of the run.

    Example:
        >>> from vlmrobust.testing import FakeModel
        >>> model = DeferredModel(FakeModel, {"class": "FakeModel"}, lambda: None, lambda identity: None)
        >>> model.identity(), model.is_loaded
        ({'class': 'FakeModel'}, False)
    """

    def __init__(
        self,
        load: Callable[[], Model],
        identity: Mapping[str, Any],
        special_tokens: Callable[[], SpecialTokens | None],
        check: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._load, self._identity, self._find, self._check = load, dict(identity), special_tokens, check
        self._model: Model | None = None
        self._expected: tuple[int, Style] | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether something was left to be asked."""
        return self._model is not None

    def identity(self, beside: Path | None = None) -> dict[str, Any]:
        """Return what the run has."""
        return dict(self._identity)

    @property
    def special_tokens(self) -> SpecialTokens | None:
        """What the model makes inert in prompts."""
        try:
            return self._find()
        except (OSError, ValueError):  # it has no processor of its own
            return special_tokens_of(self._loaded())

    def expect(self, prompts: int, style: Style) -> None:
        """Pass on what is about to be asked."""
        self._expected = prompts, style
        if self._model is not None:
            expect(self._model, prompts, style)

    def work(self) -> Mapping[str, Any]:
        """Return what was computed; nothing where nothing was asked."""
        return {} if self._model is None else work_of(self._model)

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Load the model, if that was not done, and let it answer.

        Raises:
            RefusedError: it cannot be loaded, or is another one than the run's.
        """
        return self._loaded().respond(prompts)

    def _loaded(self) -> Model:
        if self._model is None:
            try:
                model = self._load()
                self._check(identity_of(model))
            except RefusedError:
                raise
            except (ValueError, LookupError, OSError, ImportError) as error:
                raise RefusedError(str(error)) from error  # not a fault of one prompt
            except RuntimeError as error:
                raise RefusedError(error_text(error)) from error
            self._model = model
            if self._expected is not None:
                expect(model, *self._expected)
        return self._model
