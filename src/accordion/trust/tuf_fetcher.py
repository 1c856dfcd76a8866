"""Metadata over http, https or from files, for python-tuf's client: bounded in time as well as in bytes."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient import FetcherInterface

from accordion.errors import UsageError
from accordion.outside import certificates, proxy_for

__all__ = ["BoundedFetcher"]

CHUNK = 2**14  # bytes
SILENCE_S = 10.0  # without a byte for so long, nobody is there


class BoundedFetcher(FetcherInterface):
    """All files together take at most `within_s` seconds, however the bytes drip. python-tuf bounds the bytes of each file.

    Certificates and proxies are those that the environment names, as for everything else that is fetched.
    """

    def __init__(self, within_s: float) -> None:
        """UsageError or StorageError for certificates that are none."""
        self._within_s, self._end = within_s, time.monotonic() + within_s
        self._certificates = certificates()

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            with self._opener(url).open(url, timeout=max(0.01, min(SILENCE_S, self._left()))) as answer:
                # read1 returns what is there: read would wait for a full piece, byte by byte, for ever
                read = getattr(answer, "read1", answer.read)
                while piece := read(CHUNK):
                    self._left()
                    yield piece
        except urllib.error.HTTPError as error:
            error.close()
            raise DownloadHTTPError(f"{url} answered {error.code}", error.code) from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, FileNotFoundError) or "No such file" in str(error.reason):
                raise DownloadHTTPError(f"there is no {url}", 404) from error
            raise DownloadError(f"can't reach {url}: {error.reason}") from error
        except TimeoutError as error:
            raise SlowRetrievalError(f"{url} did not answer in time") from error
        except (OSError, http.client.HTTPException, ValueError, UsageError) as error:  # the last: no proxy
            raise DownloadError(f"can't reach {url}: {error}") from error

    def _opener(self, url: str) -> urllib.request.OpenerDirector:
        scheme = urlsplit(url).scheme
        proxy = proxy_for(url) if scheme in ("http", "https") else None
        proxies = {} if proxy is None else {scheme: str(proxy)}
        https = urllib.request.HTTPSHandler(context=self._certificates)
        return urllib.request.build_opener(urllib.request.ProxyHandler(proxies), https)

    def _left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise SlowRetrievalError(f"the repository took more than {self._within_s:.3g} s")
        return left
