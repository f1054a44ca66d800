"""Images at an address on the net → bytes, for those who ask for it."""

__all__ = ["CONNECTIONS", "Downloader"]

CONNECTIONS = 8  # at once; more is what hosts of data sets turn away
_CONNECT_SECONDS, _READ_SECONDS, _RETRIES = 10.0, 30.0, 3
_PASSING = (429, 500, 502, 503, 504)  # what a server says that may do better later


class Downloader:
    """Fetches the bytes behind `http://` and `https://` addresses; may be called from several threads.

    The client is urllib3: it keeps connections open, bounds how long each may take (10 s to connect, 30 s between two
    pieces of an answer) and tries three times more where a connection breaks or a server is overloaded, as late as the
    server's `Retry-After` says. The standard library has none of this, and httpx repeats broken connections alone.

    Raises:
        ValueError: urllib3 is not installed (extra `data`).
    """

    def __init__(self, backoff: float = 0.5) -> None:
        try:
            import urllib3
        except ModuleNotFoundError as error:
            raise ValueError("to download images, install the extra: pip install 'vlmrobust[data]'") from error

        retries = urllib3.Retry(
            total=_RETRIES, backoff_factor=backoff, status_forcelist=_PASSING, raise_on_status=False
        )
        self._failures = urllib3.exceptions.HTTPError
        self._pool = urllib3.PoolManager(
            maxsize=CONNECTIONS,
            block=True,
            retries=retries,
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
        )

    def __call__(self, address: str) -> bytes:
        """Return what lies at an address.

        Raises:
            ValueError: nothing does, or it could not be fetched; the message names the address.
        """
        try:
            response = self._pool.request("GET", address)
        except self._failures as error:
            raise ValueError(f"expected an image at {address!r}, got {type(error).__name__}: {error}") from error
        if response.status != 200:
            raise ValueError(f"expected an image at {address!r}, got status {response.status} {response.reason}")
        if not response.data:
            raise ValueError(f"expected an image at {address!r}, got an empty answer")
        return response.data
