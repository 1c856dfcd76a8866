"""Who counts as one client, and what each may still ask for. Kept in memory only, and only for as long as it matters."""

from __future__ import annotations

import ipaddress
import math
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

from starlette.types import Scope

from accordion.errors import UsageError

__all__ = ["Buckets", "Clients", "Proxies"]

MOST_CLIENTS = 100_000  # buckets in memory, some 20 MB; beyond, who has not come for longest starts anew
IPV6_PREFIX = 64  # bits: what one customer of a network gets, so one that changes addresses within it stays one client

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Proxies:
    """Addresses whose word on a client's address is taken (`X-Forwarded-For`). UsageError for what is no address or network."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.networks: list[Network] = []
        for text in texts:
            try:
                self.networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError as error:
                raise UsageError(f"{text!r:.80} is no address and no network of a proxy, such as 10.0.0.0/8") from error

    def trusts(self, address: Address) -> bool:
        """Whether this is one of them."""
        return any(address in network for network in self.networks)

    def names(self, address: str) -> bool:
        """The same for an address as a text; False for what is none."""
        found = _address(address)
        return found is not None and self.trusts(found)

    def client_of(self, scope: Scope) -> str:
        """The address of who asks: the last in `X-Forwarded-For` that no trusted proxy has, else the connection's own."""
        connected = scope.get("client")
        if connected is None:
            return "?"
        address = _address(str(connected[0]))
        if address is None or not self.networks or not self.trusts(address):
            return _group(address, str(connected[0]))
        said = ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for")
        for text in reversed(said.split(",")):
            found = _address(text.strip())
            if found is None:
                break  # whatever stands before it, nobody we trust has written
            address = found
            if not self.trusts(found):
                break
        return _group(address, str(address))


class Buckets:
    """Saved-up requests by client: `rate` a second come in, at most `burst` are kept."""

    def __init__(self, rate: float, burst: int, *, clock: Callable[[], float] = time.monotonic, most: int = MOST_CLIENTS) -> None:
        self._rate, self._burst, self._clock, self._most = rate, burst, clock, most
        self._left: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # what was left, and when

    def take(self, client: bytes) -> float:
        """Takes one request. Returns 0 if there was one, else the seconds until there is."""
        now = self._clock()
        left, at = self._left.pop(client, (float(self._burst), now))
        left = min(float(self._burst), left + (now - at) * self._rate)
        wait = 0.0 if left >= 1 else (1 - left) / self._rate
        self._left[client] = (left - 1 if not wait else left, now)
        if len(self._left) > self._most:
            self._left.popitem(last=False)
        return wait

    def __len__(self) -> int:
        return len(self._left)


class Clients:
    """What every client has under way, and what it may still ask for. Clients are hashes with a key that dies with the process."""

    def __init__(
        self,
        proxies: Sequence[str] = (),
        *,
        requests_per_s: float | None = None,
        burst: int = 1,
        transfers: int | None = None,
        client_transfers: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._proxies = Proxies(proxies)
        self._key = secrets.token_bytes(16)
        self._buckets = None if requests_per_s is None else Buckets(requests_per_s, burst, clock=clock)
        self._transfers, self._client_transfers = transfers, client_transfers
        self._underway: Counter[bytes] = Counter()
        self.underway = 0

    @property
    def alike(self) -> bool:
        """Whether there is no limit for which clients have to be told apart."""
        return self._buckets is None and self._client_transfers is None

    def name(self, scope: Scope, token: str | None) -> bytes:
        """Under which name this client is counted: its token's where it showed one, else its address's."""
        text = f"token {token}" if token is not None else f"address {self._proxies.client_of(scope)}"
        return blake2b(text.encode(), digest_size=16, key=self._key).digest()

    def ask(self, client: bytes) -> int:
        """Counts a request. 0: it may go on; else the whole seconds after which the client should come back."""
        wait = 0.0 if self._buckets is None else self._buckets.take(client)
        return math.ceil(wait)

    def begin(self, client: bytes) -> str | None:
        """A transfer begins; the name of the limit where it may not."""
        if self._transfers is not None and self.underway >= self._transfers:
            return "transfers"
        if self._client_transfers is not None and self._underway[client] >= self._client_transfers:
            return "client_transfers"
        self.underway += 1
        if self._client_transfers is not None:
            self._underway[client] += 1
        return None

    def end(self, client: bytes) -> None:
        """A transfer that began has ended."""
        self.underway -= 1
        if self._client_transfers is None:
            return
        self._underway[client] -= 1
        if not self._underway[client]:
            del self._underway[client]


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _group(address: Address | None, text: str) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
    return text if address is None else str(address)
