"""What the engine's own processes fail with: vLLM raises "see root cause above", and the cause stands in its log."""

import copy
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...secrecy import error_text
from ..base import RefusedError

__all__ = ["Failures"]

_CAUSE = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception)\b: .+", re.MULTILINE)
_LONGEST = 600  # characters of a cause
_WRAPPED = re.compile(
    r"See root cause above|[Ss]ee stack trace|WorkerProc initialization failed|EngineCore encountered"
)


class Failures:
    """A log of errors that all of the engine's processes write to, beside what they show.

    Args:
        options: of the engine; where they, or `VLLM_LOGGING_CONFIG_PATH`, say how to log, that is left alone.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._begun = 0
        self._folder: TemporaryDirectory[str] | None = None
        if "logging_config" not in options and not os.environ.get("VLLM_LOGGING_CONFIG_PATH"):
            self._folder = TemporaryDirectory(prefix="vlmrobust-vllm")

    def options(self) -> dict[str, Any]:
        """Return what the engine is told."""
        if self._folder is None:
            return {}
        try:
            from vllm.config.logging import LoggingConfig
            from vllm.logger import DEFAULT_LOGGING_CONFIG
        except ImportError:  # another version; its own log says what fails
            return {}
        config = copy.deepcopy(DEFAULT_LOGGING_CONFIG)
        config["formatters"]["plain"] = {"format": "%(message)s"}
        config["handlers"]["kept"] = {
            "class": "logging.FileHandler",
            "filename": str(self._log),
            "formatter": "plain",
            "level": "ERROR",
            "delay": True,
        }
        config["loggers"]["vllm"]["handlers"] = [*config["loggers"]["vllm"]["handlers"], "kept"]
        file = Path(self._folder.name) / "logging.json"
        file.write_text(json.dumps(config), encoding="utf-8")
        return {"logging_config": LoggingConfig(pylogging_config_file=str(file))}

    def cause(self, error: BaseException) -> str:
        """Return what an error of the engine comes from: of what its processes wrote, or else its own text."""
        written = self._written()[self._begun :].decode(errors="replace")
        found = [line for line in _CAUSE.findall(written) if not _WRAPPED.search(line)]
        return (found[0] if found else error_text(error))[:_LONGEST]

    def started(self) -> None:
        """Leave out what was written until now: it has hindered nothing."""
        self._begun = len(self._written())

    def died(self, error: BaseException) -> RefusedError:
        """Return what is said of every prompt once the engine is gone."""
        return RefusedError(
            f"vLLM's engine died: {self.cause(error)}; what was answered is kept, and the same call goes on with a new "
            "engine"
        )

    def close(self) -> None:
        """Remove the log."""
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def _log(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / "errors.log"

    def _written(self) -> bytes:
        return self._log.read_bytes() if self._folder is not None and self._log.is_file() else b""
