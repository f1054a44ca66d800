"""Secrets stay out of logs, whoever writes them.

A client logs through libraries whose names change with their versions (`httpx`, `httpx2`), and whose loggers may be
made after it. So they are hidden where records are made, and not in loggers or handlers.
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
_WATCHING = threading.RLock()


def keep_out_of_logs(secrets: Secrets) -> None:
    """Hide secrets, as long as they are held, in what is logged from now on.

    Args:
        secrets: of a client; the one who holds them decides for how long.
    """
    with _WATCHING:
        _WATCHED.add(secrets)
        make = logging.getLogRecordFactory()
        if not isinstance(make, _Hiding):  # another's may have taken its place
            logging.setLogRecordFactory(_Hiding(make))


@dataclass(frozen=True)
class _Hiding:
    """Makes records without the secrets that are watched; a record that holds none stays as it is."""

    make: Callable[..., logging.LogRecord]

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self.make(*args, **kwargs)
        with _WATCHING:
            watched = [secrets for secrets in _WATCHED if secrets.values]
        if not watched:
            return record
        try:
            said = record.getMessage()
        except Exception:  # noqa: BLE001 - the handler tells that the arguments do not fit
            return record
        if (told := _without(said, watched)) != said:
            record.msg, record.args = told, ()
        if record.exc_info and record.exc_info[1] is not None:
            said = "".join(traceback.format_exception(record.exc_info[1])).rstrip()
            if (told := _without(said, watched)) != said:
                record.exc_text = told
        return record


def _without(text: str, watched: Iterable[Secrets]) -> str:
    for secrets in watched:
        text = secrets.without_values(text)
    return text
