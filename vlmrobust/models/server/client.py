"""The official OpenAI client, made in one place, with what is secret of it."""

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from pydantic import SecretStr

from ...log_records import keep_out_of_logs
from ...secrecy import Secrets
from .deadline import bounded_client

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["ANY_KEY", "make_client", "secrets_of"]

ANY_KEY = "any"
"""What is sent where no key is given: a server of one's own asks for none, but the client must send one."""


def make_client(user: str, *, base_url: str | None, api_key: str | SecretStr | None, timeout: float) -> "OpenAI":
    """Return a client that sends each request once (`Attempts` sends it again); it is safe to share between threads.

    Args:
        user: who needs it, for the error.
        base_url: the server's address; None = `OPENAI_BASE_URL`, or else OpenAI's. Its query is that of every request.
        api_key: None = `OPENAI_API_KEY`; where that is not set either, a server at `base_url` is asked without one.
        timeout: seconds for a request, from its first byte to the last one of the reply.

    Raises:
        ImportError: the client is not installed; the message says what to install.
        ValueError: the address is none.
        openai.OpenAIError: no key at all, for OpenAI's own server.
    """
    try:
        from openai import OpenAI
    except ImportError as error:
        raise ImportError(f"{user} needs the openai client: pip install vlmrobust[api]") from error
    key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
    if key is None and base_url is not None and not os.environ.get("OPENAI_API_KEY"):
        key = ANY_KEY
    address = _checked(base_url or os.environ.get("OPENAI_BASE_URL") or "")
    query = dict(parse_qsl(address.query, keep_blank_values=True))
    http_client, timeouts = bounded_client(timeout)
    return OpenAI(
        base_url=urlunsplit(address._replace(query="")) if query else base_url,
        api_key=key,
        max_retries=0,
        timeout=timeouts,
        default_query=query or None,
        http_client=http_client,
    )


def _checked(address: str) -> SplitResult:
    """Return the parts of an address; what is wrong with it is told without it, since a key may stand in its middle."""
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        raise ValueError(
            "field 'base_url': expected an address such as http://localhost:8000/v1, got one whose host or port cannot "
            "be read (it is not repeated here, since a key may stand in it)"
        ) from None
    return parts


def secrets_of(client: "OpenAI", settings: Any) -> Secrets:
    """Return what is secret of a client, and keep it out of all logs as long as that is held.

    Args:
        client: with its key, address, headers and query.
        settings: what requests say beside.
    """
    own = {"address": str(client.base_url), "query": client.default_query, "headers": client.default_headers}
    secrets = Secrets.of(client.api_key, settings=[own, settings])
    keep_out_of_logs(secrets)
    return secrets
