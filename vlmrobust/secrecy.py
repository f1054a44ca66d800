"""Recognise secrets, and keep them out of settings, messages and logs.

Entries with secret names are removed from settings (`without_secrets`). In texts, such as a server's error that repeats
the key, secrets are replaced by `[key]` (`Secrets.hidden`). Exceptions are converted to text by `error_text`. Text
written by a model is never changed.

A client logs through libraries whose names change with their versions (`httpx`, `httpx2`), and whose loggers may be
created later. So secrets are redacted when records are created, not in loggers or handlers.
"""

import base64
import binascii
import html
import json
import logging
import re
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlencode, urlsplit, urlunsplit
from weakref import WeakSet

from .text import writable

__all__ = [
    "Secrets",
    "error_message",
    "error_text",
    "is_secret_name",
    "keep_out_of_logs",
    "may_hold_a_secret",
    "variable_shown",
    "without_secrets",
]

MARK = "[key]"
"""Replacement for secrets in texts."""

_LAST_WORD = re.compile(
    r"(?:.*_)?(?:(?:api)?keys?|token|secrets?|passwords?|passwd|passphrase|pwd|auth|authorization|credentials?|cookies?"
    r"|bearer|jwt|sig|signature)"
)
_ANYWHERE = re.compile(
    r"(?:^|_)(?:secret|password|passwd|passphrase|authorization|credentials?|api_?key|bearer)(?:_|$)"
)
_GLUED = ("key", "token", "secret", "password", "authorization")  # `accesskey`, `authtoken`
# Of a vocabulary, of a cache, and the name of a variable: these decide something, and tell nothing.
_HARMLESS = re.compile(r"(?:eos|bos|pad|unk|sep|cls|mask|stop|image|video|max|min|cache|sort)_(?:token|key)|.*_env")

_PLACEHOLDER = re.compile(
    r"empty|any|none|null|test|dummy|fake|placeholder|local|ollama|lm-studio|unused|ignored|changeme|token-abc123"
    # Everyday words and what is typed for lack of a key: hidden, they would be missing from every other sentence.
    r"|vllm|sglang|llama(?:[._-]?cpp)?|openai|server|model|demo|default|hello|admin|user|secret|password|abc123|1234\d{0,4}"
    r"|(?:your[_-])?(?:api|secret)?[_-]?key|token|(?:sk-)?(?:no|not)[_-](?:key|needed|required|used)(?:[_-]required)?",
    re.IGNORECASE,
)
_MIN_LENGTH = 4  # shorter ones are placeholders, and parts of every other word
_DISTINCTIVE_LENGTH = 12  # from so many characters on, what reads like it is it, wherever it stands
_BASE64 = (base64.b64encode, base64.urlsafe_b64encode)
_WHOLE_WORD = (
    r"(?:(?<![^\W_])|(?<=%[0-9a-f][0-9a-f])|(?<=\\[nrt])|(?<=\\u[0-9a-f]{4}))",
    r"(?![^\W_])",
)

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^\s/?#@\"'<>\\]+(?=@)")
_PARAMETER = re.compile(
    r"(?P<before>(?:[?&;]|%3f|%26)(?P<name>[\w.~-]+)(?:=|%3d))(?P<value>(?:(?!%26)[^&\s\"'<>#;\\)])+)", re.IGNORECASE
)
_ENTRY = re.compile(
    r"(?P<before>(?<![\w-])(?P<name>[a-z][\w-]*[_-](?:key|token)|api[_-]?key|password|passwd|secret|[\w-]*authorization)"
    # Behind a colon, what has no quote around it is told from a sentence by a digit in it.
    r"[\"']?\s*(?:=|[:=]\s*b?[\"']|[:=]\s*(?=(?:(?:bearer|basic|token)\s+)?[^\s\"',;}]*\d))"
    r"(?:(?:bearer|basic|token)\s+)?)(?P<value>[^\s\"',;&}]{6,})",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"(?<=\bbearer )(?=\S*\d)[\w.~+/=-]{8,}"
    # The word "basic" stands in front of other words too; base64 of a name and a password has all of these.
    r"|(?<=\bbasic )(?-i:(?=\S*\d)(?=\S*[a-z])(?=\S*[A-Z]))[\w+/-]{8,}={0,2}",
    re.IGNORECASE,
)

# pydantic's, behind each of its problems: an address that says nothing of this one.
_FURTHER = re.compile(r"\n[ \t]*For further information visit https://errors\.pydantic\.dev/\S*")


def is_secret_name(name: str) -> bool:
    """Return whether the name of a setting, a header or a parameter implies a secret value.

    Example:
        >>> [is_secret_name(name) for name in ("api_key", "X-Api-Key", "accessToken", "max_tokens", "eos_token")]
        [True, True, True, False, False]
    """
    plain = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")
    if not plain or _HARMLESS.fullmatch(plain):
        return False
    return _LAST_WORD.fullmatch(plain) is not None or _ANYWHERE.search(plain) is not None or plain.endswith(_GLUED)


def may_hold_a_secret(name: str) -> bool:
    """Return whether the value under a name may be a key: a secret, or a key given instead of its variable's name.

    Example:
        >>> [may_hold_a_secret(name) for name in ("api_key", "api-key-env", "model")]
        [True, True, False]
    """
    return is_secret_name(name) or is_secret_name(re.sub(r"[^a-z0-9]?env$", "", name, flags=re.IGNORECASE))


def variable_shown(name: str) -> str:
    """Return the name of an environment variable for a message, unless it may be a key given by mistake.

    Example:
        >>> variable_shown("MY_API_KEY")
        "'MY_API_KEY'"
        >>> variable_shown("sk_0123456789")
        'one that is not repeated here, since it may be the key itself'
    """
    if re.fullmatch(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*", name) and is_secret_name(name):
        return repr(name)
    return "one that is not repeated here, since it may be the key itself"


def without_secrets(value: Any, is_secret: Callable[[str], bool] = is_secret_name) -> Any:
    """Return settings without secrets: entries with secret names, and secrets in URLs.

    Args:
        value: the settings.
        is_secret: returns whether the value under a name is left out.

    Example:
        >>> without_secrets({"top_k": 20, "provider": {"api_key": "abc", "order": ["x"]}})
        {'top_k': 20, 'provider': {'order': ['x']}}
        >>> without_secrets("https://user:abc@host/v1?version=2&api-key=abc")
        'https://host/v1?version=2'
    """
    if isinstance(value, Mapping):
        named = {str(name): part for name, part in value.items() if not is_secret(str(name))}
        if _names_a_secret(value):  # {"name": "X-Api-Key", "value": …}
            named.pop("value", None)
        return {name: without_secrets(part, is_secret) for name, part in named.items()}
    if isinstance(value, list | tuple):
        if len(value) == 2 and isinstance(value[0], str) and is_secret(value[0]):  # ["X-Api-Key", …]
            return [value[0], MARK]
        return [without_secrets(part, is_secret) for part in value]
    if isinstance(value, str):
        return _strip_address(value) if _ADDRESS.fullmatch(value) else _hide_by_position(value)
    return value


def _names_a_secret(value: Mapping[Any, Any]) -> bool:
    names = (value.get(field) for field in ("name", "header", "field"))
    return "value" in value and any(isinstance(name, str) and is_secret_name(name) for name in names)


def _strip_address(address: str) -> str:
    try:
        parts = urlsplit(address)
        query = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:  # no address after all
        return _hide_by_position(address)
    kept = [(name, part) for name, part in query if not is_secret_name(name)]
    changed = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    if len(kept) < len(query):
        changed = changed._replace(query=urlencode(kept))
    return address if changed == parts else urlunsplit(changed)


def _values(settings: Any, *, secret: bool = False) -> Iterator[str]:
    """Yield the secret values in settings."""
    if isinstance(settings, Mapping):
        named = _names_a_secret(settings)
        for name, part in settings.items():
            yield from _values(part, secret=secret or is_secret_name(str(name)) or (named and name == "value"))
    elif isinstance(settings, list | tuple):
        pair = len(settings) == 2 and isinstance(settings[0], str) and is_secret_name(settings[0])
        for index, part in enumerate(settings):
            yield from _values(part, secret=secret or (pair and index == 1))
    elif isinstance(settings, str):
        if secret:
            scheme, _, rest = settings.partition(" ")  # a header's "Bearer …"
            yield rest.strip() if scheme.lower() in ("bearer", "basic", "token") and rest else settings
            if scheme.lower() == "basic":
                yield from _basic_credentials(rest)
        for found in _USER.findall(settings):
            yield unquote(found)
            yield unquote(found.partition(":")[2])
        for parameter in _PARAMETER.finditer(settings):
            if is_secret_name(parameter["name"]):
                yield unquote(parameter["value"].replace("+", " "))


def _basic_credentials(encoded: str) -> Iterator[str]:
    """Yield name and password, and the password, of a header."""
    try:
        pair = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):  # it is secret as it stands
        return
    yield pair
    yield pair.partition(":")[2]


def _hide_by_position(text: str) -> str:
    """Hide secrets by position: in a URL, after a secret's name, in a header."""

    def hidden(found: re.Match[str]) -> str:
        return f"{found['before']}{MARK}" if is_secret_name(found["name"]) else found[0]

    if "://" in text:
        text = _USER.sub(MARK, text)
    text = _PARAMETER.sub(hidden, text)
    return _HEADER.sub(MARK, _ENTRY.sub(hidden, text))


@dataclass(frozen=True, eq=False)
class Secrets:
    """The secrets of one client; compared by identity, even if the values are equal.

    Attributes:
        values: the secret values, without placeholders such as `EMPTY`, which local servers use.
    """

    values: frozenset[str] = frozenset()

    @classmethod
    def of(cls, *keys: str | None, settings: Any = ()) -> Self:
        """Return the secrets among keys and settings.

        Args:
            *keys: keys; None = none.
            settings: URLs, headers and bodies with secrets under names that imply them.

        Example:
            >>> settings = {"extra": {"token": "abcd-1234"}, "url": "http://host/?sig=9a8b7c"}
            >>> sorted(Secrets.of("EMPTY", settings=settings).values)
            ['9a8b7c', 'abcd-1234']
        """
        found = (value.strip() for value in (*(key for key in keys if key), *_values(settings)))
        secret = (value for value in found if len(value) >= _MIN_LENGTH and not _PLACEHOLDER.fullmatch(value))
        return cls(frozenset(secret))

    def hidden(self, text: str) -> str:
        """Return a text with secrets replaced, whether plain, escaped, URL-encoded or in base64.

        Example:
            >>> Secrets.of("sk-abc-123/x").hidden("Incorrect API key provided: sk-abc-123/x (sk-abc-123%2Fx)")
            'Incorrect API key provided: [key] ([key])'
            >>> Secrets.of("x").hidden("expected a key")
            'expected a key'
        """
        return _hide_by_position(self.without_values(text))

    def without_values(self, text: str) -> str:
        """Return a text with only the known values replaced, for text by others."""
        return text if self._pattern is None else self._pattern.sub(MARK, text)

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        ways = sorted({way for value in self.values for way in _spellings(value)}, key=len, reverse=True)
        return re.compile("|".join(ways), re.IGNORECASE) if ways else None

    def error_text(self, error: BaseException) -> str:
        """Return `error_text` of an exception and its cause, with secrets replaced."""
        cause = error.__cause__  # connection errors have no details of their own
        return self.hidden(error_text(error)) + ("" if cause is None else f" ({self.hidden(error_message(cause))})")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make `error_text` and `error_message` hide these secrets in this context."""
        token = _HELD.set((*_HELD.get(), self))
        try:
            yield
        finally:
            _HELD.reset(token)


_HELD: ContextVar[tuple[Secrets, ...]] = ContextVar("secrets held", default=())


def _spellings(value: str) -> Iterable[str]:
    """Yield patterns of the spellings of a value."""
    forms = {value, quote(value, safe=""), quote(value), quote_plus(value), json.dumps(value)[1:-1], repr(value)[1:-1]}
    forms |= {quote(form, safe="") for form in forms}  # an address within an address
    forms |= {html.escape(form) for form in forms}
    # Basic authorization is base64 of a name, a colon and a password; the password may be empty.
    coded = {text.encode() for text in (value, f"{value}:")}
    forms |= {encode(code).decode().rstrip("=") for code in coded for encode in _BASE64}
    before, after = ("", "") if len(value) >= _DISTINCTIVE_LENGTH else _WHOLE_WORD
    yield from (f"{before}{re.escape(form)}{after}" for form in forms)
    if len(value) < _DISTINCTIVE_LENGTH:
        return
    # Within base64 of a longer text, such as a whole header, all but its ends is one of three by its place.
    yield from {
        re.escape(encode(b"\0" * shift + value.encode()).decode()[4 * (shift > 0) :].rstrip("=")[:-1])
        for shift in range(3)
        for encode in _BASE64
    }
    # Errors show the first so many characters of what came: the key may be cut off.
    for whole in (value, base64.b64encode(value.encode()).decode().rstrip("=")):
        for end in range(len(whole) - 1, max(_DISTINCTIVE_LENGTH, len(whole) // 2) - 1, -1):
            yield rf"{re.escape(whole[:end])}(?=['\"]?$|…|\.\.\.)"


def error_text(error: BaseException) -> str:
    """Return class and message of any exception as text that a report can hold.

    Example:
        >>> error_text(ConnectionError("https://host/v1?api-key=abcd-1234 is away"))
        'ConnectionError: https://host/v1?api-key=[key] is away'
        >>> class Silent(Exception):
        ...     def __str__(self):
        ...         raise TypeError("no")
        >>> error_text(Silent())
        'Silent: (its text cannot be shown: TypeError)'
    """
    return f"{type(error).__name__}: {error_message(error)}"


def error_message(error: BaseException) -> str:
    """Return only the message of an exception; see `error_text`.

    Example:
        >>> error_message(KeyError("no column 'answer'"))
        "no column 'answer'"
    """
    try:
        # The text of a KeyError is its argument with quotes around it.
        message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    except Exception as broken:  # noqa: BLE001 - others' classes decide what their text raises
        message = f"(its text cannot be shown: {type(broken).__name__})"
    message = _FURTHER.sub("", writable(message))
    for secrets in _HELD.get():
        message = secrets.hidden(message)
    return _hide_by_position(message)


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
