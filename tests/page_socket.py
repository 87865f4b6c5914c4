"""The page's WebSocket as a program speaks it that is no browser, byte by byte."""

from __future__ import annotations

import json
import re
import socket
from typing import Any
from urllib.parse import urlsplit

from streamlit.proto.BackMsg_pb2 import BackMsg

HEADER_ID = re.compile(rb"\$\$ID-[0-9a-f]+-page_header")


def open_socket(page: str, **headers: str) -> socket.socket:
    """Requests the page's WebSocket at this URL and waits for the first byte of the response, which
    remains to be read. The headers are named in Python's way: X_Forwarded_Proto."""
    at = urlsplit(page)
    given = {"Host": at.netloc, "Connection": "Upgrade", "Upgrade": "websocket"}
    given |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    given |= {"Sec-WebSocket-Protocol": "streamlit"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = ["GET /_stcore/stream HTTP/1.1", *(f"{name}: {text}" for name, text in given.items())]
    connection = socket.create_connection((at.hostname, at.port), 30)
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    connection.recv(1, socket.MSG_PEEK)  # frames sent before it has accepted are lost
    return connection


def frame(message: BackMsg) -> bytes:
    """A message to the page as one binary frame, with a mask that changes nothing."""
    payload = message.SerializeToString()
    return b"\x82" + bytes([0x80 | 126]) + len(payload).to_bytes(2, "big") + bytes(4) + payload


def first_visit(query: str = "") -> bytes:
    """The first message of a browser, which asks for the page."""
    message = BackMsg()
    message.rerun_script.query_string = query
    return frame(message)


def submit(header_id: str, **values: Any) -> bytes:
    """The message of a browser when a visitor submits the form."""
    return trigger(header_id, "submit", {"values": values, "source": ""})


def trigger(component_id: str, name: str, value: Any) -> bytes:
    """The message of a browser when a component sends an event."""
    message = BackMsg()
    event = message.rerun_script.widget_states.widgets.add()
    event.id = f"$$STREAMLIT_INTERNAL_KEY_{component_id}__events"
    event.json_trigger_value = json.dumps([{"event": name, "value": value}])
    return frame(message)


def read_until(connection: socket.socket, wanted: re.Pattern[bytes]) -> bytes:
    """Reads until the pattern has arrived; returns everything received."""
    received = b""
    while not wanted.search(received):
        data = connection.recv(1 << 16)
        assert data, f"it closed the connection after {received!r}"
        received += data
    return received
