"""The headers in which a proxy names the visitor, and how it proves that it has set them.

The API and the page's server check the same headers by the same rules. Must not depend on Flask or
Streamlit: a header is a pair of bytes, as ASGI servers deliver it."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

PROOF_HEADER = "X-Tailboard-Proxy"  # contains TAILBOARD_PROXY_SECRET
USER_NAME = re.compile(r"\w[\w.@+-]{0,63}")  # as the names of tokens
USER_NAMES = "1 to 64 letters, digits and . _ @ + -, with a letter, a digit or _ first"
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

Header = tuple[bytes, bytes]
Network = IPv4Network | IPv6Network


class ProxyRefused(Exception):
    """Why the headers of a request do not name its visitor: one sentence, without the secret and
    without the values of the headers."""


@dataclass(frozen=True)
class ProxyUser:
    """A visitor whom a proxy has signed in."""

    name: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProxyRules:
    """The settings for proxies that sign visitors in."""

    user_header: str = ""  # such as Remote-User; "": no proxy signs anybody in
    group_header: str = ""
    secret: str = ""
    networks: tuple[Network, ...] = LOOPBACK  # from which proxies and the page's server connect

    def find_user(self, headers: Iterable[Header], peer: str | None) -> ProxyUser | None:
        """The visitor of a request that has arrived from the address `peer` (None: through a Unix
        socket). Returns None if the request has none of the headers, and raises ProxyRefused
        unless all of them are right: a header that is wrong is never ignored."""
        given = list(headers)
        names = [name for name in (self.user_header, self.group_header, PROOF_HEADER) if name]
        found = {name: self._values(given, name) for name in names}
        if not any(found.values()):
            return None
        if not self.user_header:
            raise ProxyRefused(
                "this server accepts no users from a proxy: set TAILBOARD_USER_HEADER"
            )
        if not self.is_proxy(peer):
            raise ProxyRefused("this address is not one of a proxy: see TAILBOARD_PROXIES")
        proof = found[PROOF_HEADER]
        if len(proof) != 1 or not hmac.compare_digest(proof[0], self.secret.encode()):
            raise ProxyRefused(f"{PROOF_HEADER} is missing or wrong")
        return ProxyUser(self._name(found[self.user_header]), self._groups(found))

    def is_proxy(self, peer: str | None) -> bool:
        """Can a proxy connect from this address?"""
        if peer is None:
            return True
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self.networks)

    def headers_of(self, user: ProxyUser) -> dict[str, str]:
        """The headers by which the page's server passes the visitor on to the API."""
        sent = {self.user_header: user.name, PROOF_HEADER: self.secret}
        if self.group_header and user.groups:
            sent[self.group_header] = ",".join(user.groups)
        return sent

    def _values(self, headers: Iterable[Header], name: str) -> list[bytes]:
        """The values of all headers with this name. Raises ProxyRefused if one is only spelled like
        it: CGI and some servers treat Remote_User as Remote-User, so a client could add a second
        user to a request whose first one the proxy has set."""
        values = []
        for each, value in headers:
            if each.lower().replace(b"_", b"-") == fold(name).replace(b"_", b"-"):
                if each.lower() != fold(name):
                    raise ProxyRefused(f"a header is spelled almost like {name}")
                values.append(value)
        return values

    def _name(self, values: list[bytes]) -> str:
        if len(values) != 1:
            times = "missing" if not values else "repeated"
            raise ProxyRefused(f"{self.user_header} is {times}")
        try:
            name = values[0].strip().decode()
        except UnicodeDecodeError:
            name = ""
        if not USER_NAME.fullmatch(name):
            raise ProxyRefused(f"{self.user_header} must be {USER_NAMES}")
        return name

    def _groups(self, found: dict[str, list[bytes]]) -> tuple[str, ...]:
        values = found.get(self.group_header, [])
        if len(values) > 1:
            raise ProxyRefused(f"{self.group_header} is repeated")
        texts = b"".join(values).decode(errors="replace").split(",")
        return tuple(text.strip() for text in texts if text.strip())


def fold(name: str) -> bytes:
    return name.lower().encode("latin-1", errors="replace")


def parse_networks(variable: str, text: str) -> tuple[Network, ...]:
    """Loopback, and the networks in a list of addresses and networks. ValueError, with a
    one-sentence message, if one is invalid."""
    parts = text.split(",") if text else []
    try:
        return (*LOOPBACK, *(ip_network(part.strip()) for part in parts))
    except ValueError:
        raise ValueError(
            f"{variable} must be comma-separated addresses and networks, such as "
            f"10.0.0.7,10.1.0.0/16, not {text!r:.80}"
        ) from None
