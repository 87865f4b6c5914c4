"""Addresses at which servers of this machine can listen."""

from __future__ import annotations

import socket


def check_address(host: str, port: int) -> str:
    """The IP address of a host name, if a server can listen at this port of it. OSError if not, for
    example because another server uses the port."""
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    # Without this check, the server would share the port with another one that allows it, such as
    # one of ours.
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
    return str(address[0])
