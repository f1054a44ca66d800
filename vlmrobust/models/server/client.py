"""The official OpenAI client, made in one place, and its key kept out of what is shown or written."""

import os
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["ANY_KEY", "make_client", "redacted", "without_secrets"]

ANY_KEY = "any"
"""What is sent where no key is given: a server of one's own asks for none, but the client must send one."""

_SECRET_NAMES = ("key", "token", "secret", "password", "authorization")


def make_client(
    user: str, *, base_url: str | None, api_key: str | SecretStr | None, max_retries: int, timeout: float
) -> "OpenAI":
    """Return a client; it is safe to share between threads.

    Args:
        user: who needs it, for the error.
        base_url: the server's address; None = `OPENAI_BASE_URL`, or else OpenAI's.
        api_key: None = `OPENAI_API_KEY`; where that is not set either, a server at `base_url` is asked without one.
        max_retries: of a request that failed in passing (no connection, 408, 409, 429, 5xx), after a growing wait, or
            after the one that the server asks for (`Retry-After`).
        timeout: seconds for one request.

    Raises:
        ImportError: the client is not installed; the message says what to install.
        openai.OpenAIError: no key at all, for OpenAI's own server.
    """
    try:
        from openai import OpenAI
    except ImportError as error:
        raise ImportError(f"{user} needs the openai client: pip install vlmrobust[api]") from error
    key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
    if key is None and base_url is not None and not os.environ.get("OPENAI_API_KEY"):
        key = ANY_KEY
    return OpenAI(base_url=base_url, api_key=key, max_retries=max_retries, timeout=timeout)


def redacted(text: str, key: str) -> str:
    """Return a text without the key, which some servers repeat in their errors.

    Example:
        >>> redacted("Incorrect API key provided: abc-123", "abc-123")
        'Incorrect API key provided: [key]'
    """
    return text.replace(key, "[key]") if key and key != ANY_KEY else text


def without_secrets(value: Any) -> Any:
    """Return JSON values without the entries whose names say that they are secret.

    Example:
        >>> without_secrets({"top_k": 20, "provider": {"api_key": "abc", "order": ["x"]}})
        {'top_k': 20, 'provider': {'order': ['x']}}
    """
    if isinstance(value, dict):
        shown = {name: part for name, part in value.items() if not str(name).lower().endswith(_SECRET_NAMES)}
        return {str(name): without_secrets(part) for name, part in shown.items()}
    return [without_secrets(part) for part in value] if isinstance(value, list | tuple) else value
