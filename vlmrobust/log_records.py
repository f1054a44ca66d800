"""Redact secrets in all log records.

A client logs through libraries whose names change with their versions (`httpx`, `httpx2`), and whose loggers may be
created later. So secrets are redacted when records are created, not in loggers or handlers.
"""

import logging
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from .secrecy import Secrets

__all__ = ["keep_out_of_logs"]

_WATCHED: WeakSet[Secrets] = WeakSet()
_LOCK = threading.RLock()


def keep_out_of_logs(secrets: Secrets) -> None:
    """Redact secrets in log records from now on, as long as a reference to them exists.

    Args:
        secrets: the secrets of a client, held by a weak reference.
    """
    with _LOCK:
        _WATCHED.add(secrets)
        factory = logging.getLogRecordFactory()
        if not isinstance(factory, _RedactingFactory):  # others may have replaced it
            logging.setLogRecordFactory(_RedactingFactory(factory))


@dataclass(frozen=True)
class _RedactingFactory:
    """Creates records with watched secrets redacted; other records are unchanged."""

    make: Callable[..., logging.LogRecord]

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self.make(*args, **kwargs)
        with _LOCK:
            watched = [secrets for secrets in _WATCHED if secrets.values]
        if not watched:
            return record
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - the handler reports arguments that do not match
            return record
        if (redacted := _redact(message, watched)) != message:
            record.msg, record.args = redacted, ()
        if record.exc_info and record.exc_info[1] is not None:
            message = "".join(traceback.format_exception(record.exc_info[1])).rstrip()
            if (redacted := _redact(message, watched)) != message:
                record.exc_text = redacted
        return record


def _redact(text: str, watched: Iterable[Secrets]) -> str:
    for secrets in watched:
        text = secrets.without_values(text)
    return text
