"""Proxies that sign visitors in: the setups of docs/proxies.md, read from its configurations, and a
stand-in that does to the headers what they do. The real ones are started if they are installed."""

from __future__ import annotations

import re
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.cookies import SimpleCookie
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
from conftest import ROOT, Processes, clean_environment, free_port, wait_until
from other_servers import Answer, Request, serve

PAGE = ROOT / "docs" / "proxies.md"
SECRET = "a-secret-of-the-proxy"
PORTAL = "https://auth.example.org/?rd=back"
REDIRECT = (
    f"HTTP/1.1 302 Found\r\nLocation: {PORTAL}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
).encode()
# What the sign-in services say about a visitor with the cookie `session=NAME`.
IDENTITIES: dict[str, dict[str, str]] = {
    "anna": {
        "X-Auth-Request-User": "81726354",
        "X-Auth-Request-Email": "anna",
        "X-Auth-Request-Groups": "dev,admins",
        "Remote-User": "anna",
        "Remote-Groups": "dev,admins",
    },
    "dora": {
        "X-Auth-Request-Email": "dora",
        "X-Auth-Request-Groups": "dev",
        "Remote-User": "dora",
        "Remote-Groups": "dev",
    },
    "nobody": {},  # signed in, but the service does not say who it is
}


class Setup(NamedTuple):
    """What a proxy does to the headers of a request."""

    passed: dict[str, str]  # header for the page -> header of the service's answer
    proof: str  # the header that gets the secret
    removed: set[str]  # headers of clients that do not reach the API
    sign_in_path: str  # at the service


class Servers(NamedTuple):
    """The addresses of what is behind a proxy."""

    page: str
    api: str
    service: str


def configuration(heading: str, name: str) -> str:
    """The block below a heading that begins with the comment `# name`."""
    below = (
        PAGE.read_text().partition(f"\n## {heading}\n")[2]
        or PAGE.read_text().partition(f"\n### {heading}\n")[2]
    )
    found = re.search(rf"^```\w*\n(# {re.escape(name)}.*?)^```", below, re.M | re.S)
    assert found, (heading, name)
    return found[1]


def nginx_files(service: str) -> dict[str, str]:
    """The files of nginx, by their paths."""
    return {
        "/etc/nginx/conf.d/tailboard.conf": configuration(
            "nginx", "/etc/nginx/conf.d/tailboard.conf"
        ),
        "/etc/nginx/tailboard-secret.conf": configuration(
            "nginx", "/etc/nginx/tailboard-secret.conf"
        ),
        "/etc/nginx/tailboard-sign-in.conf": configuration(
            service, "/etc/nginx/tailboard-sign-in.conf"
        ),
    }


def caddyfile() -> str:
    return configuration("Caddy with Authelia", "/etc/caddy/Caddyfile")


def nginx_setup(service: str) -> Setup:
    files = nginx_files(service)
    server, sign_in = (
        files["/etc/nginx/conf.d/tailboard.conf"],
        files["/etc/nginx/tailboard-sign-in.conf"],
    )
    sources = dict(re.findall(r"auth_request_set (\$\w+) \$upstream_http_(\w+);", sign_in))
    page, _, api = server.partition("location /api/")
    passed = dict(
        re.findall(r"proxy_set_header (\S+) (\$tailboard_user|\$tailboard_groups);", page)
    )
    proof = re.search(r"proxy_set_header (\S+) ", files["/etc/nginx/tailboard-secret.conf"])
    path = re.search(r"proxy_pass http://127.0.0.1:\d+(/\S*)?;", sign_in)
    asked = re.search(r"auth_request (\S+);", sign_in)
    assert proof and path and asked
    return Setup(
        {header: sources[name].replace("_", "-") for header, name in passed.items()},
        proof[1],
        set(re.findall(r'proxy_set_header (\S+) "";', api)),
        path[1] or asked[1],
    )


def caddy_setup() -> Setup:
    text = caddyfile()
    copied, proof = re.search(r"copy_headers (.+)", text), re.search(r"header_up (\S+) ", text)
    path = re.search(r"forward_auth .*?uri (\S+)", text, re.S)
    assert copied and proof and path
    removed = set(re.findall(r"request_header -(\S+)", text))
    return Setup({name: name for name in copied[1].split()}, proof[1], removed, path[1])


SETUPS = {
    "nginx and oauth2-proxy": nginx_setup("oauth2-proxy"),
    "nginx and Authelia": nginx_setup("Authelia"),
    "Caddy and Authelia": caddy_setup(),
}


# --- The sign-in service --------------------------------------------------------------------------


def session_of(headers: Mapping[str, str]) -> str:
    """The name in the visitor's cookie; "" without one."""
    cookie = SimpleCookie(headers.get("Cookie", "")).get("session")
    return cookie.value if cookie and cookie.value in IDENTITIES else ""


def answer_proxy(request: Request) -> Answer:
    """What the service answers when a proxy asks who a visitor is."""
    name = session_of(request.headers)
    if name:
        return Answer(200, headers=IDENTITIES[name])
    return Answer(302 if "forward-auth" in request.path else 401, headers={"Location": PORTAL})


# --- The stand-in ---------------------------------------------------------------------------------


class StandIn:
    """A proxy that treats the headers of each request as a setup does, and forwards the rest byte
    by byte: also a WebSocket. Each connection carries one request."""

    def __init__(self, setup: Setup, servers: Servers) -> None:
        self.setup, self.servers = setup, servers
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.threads = [threading.Thread(target=self._accept)]
        self.open: list[socket.socket] = []
        self.threads[0].start()

    def close(self) -> None:
        for end in [self.listener, *self.open]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in list(self.threads):
            thread.join()
        self.listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.open.append(client)
                thread = threading.Thread(target=self._serve, args=(client,))
                thread.start()
                self.threads.append(thread)

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            received = b""
            while b"\r\n\r\n" not in received:
                data = client.recv(1 << 16)
                if not data:
                    return
                received += data
            head, _, rest = received.partition(b"\r\n\r\n")
            request, *lines = head.decode("latin-1").split("\r\n")
            fields = [line.partition(": ") for line in lines]
            headers = [(name, value) for name, _, value in fields]
            path = request.split(" ")[1]
            added = {} if path.startswith("/api/") else self._identity(headers)
            if added is None:
                client.sendall(REDIRECT)
                return
            upstream = self.servers.api if path.startswith("/api/") else self.servers.page
            lines = [request.replace(" /api/", " /"), *self._lines(headers, added)]
            forward(client, upstream, "\r\n".join([*lines, "", ""]).encode("latin-1") + rest)

    def _identity(self, headers: list[tuple[str, str]]) -> dict[str, str] | None:
        """The headers that name the visitor; None if the visitor has not signed in."""
        name = session_of({each.title(): value for each, value in headers})
        if not name:
            return None
        said = {each.lower(): value for each, value in IDENTITIES[name].items()}
        passed = {ours: said.get(its.lower(), "") for ours, its in self.setup.passed.items()}
        return passed | {self.setup.proof: SECRET}

    def _lines(self, headers: list[tuple[str, str]], added: dict[str, str]) -> list[str]:
        """The headers of the forwarded request. An empty one is not sent, as with nginx."""
        added |= {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "http"}
        if not any(name.lower() == "upgrade" for name, _ in headers):
            added["Connection"] = "close"
        replaced = {name.lower() for name in (*self.setup.removed, *added)}
        kept = [each for each in headers if each[0].lower() not in replaced]
        return [f"{name}: {value}" for name, value in (*kept, *added.items()) if value]


def forward(client: socket.socket, upstream: str, request: bytes) -> None:
    """Sends a request to a server, and then every byte in both directions."""
    address = ("127.0.0.1", int(upstream.rpartition(":")[2]))
    with socket.create_connection(address) as server:
        server.sendall(request)
        back = threading.Thread(target=copy, args=(server, client))
        back.start()
        copy(client, server)
        back.join()


def copy(source: socket.socket, target: socket.socket) -> None:
    """Copies bytes until the end of the source."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


# --- The real proxies -----------------------------------------------------------------------------


def adapt(text: str, servers: Servers) -> str:
    """A configuration with the addresses of a test."""
    for ours, real in (
        *(("8501", servers.page), ("5000", servers.api)),
        *(("4180", servers.service), ("9091", servers.service)),
    ):
        text = text.replace(f"127.0.0.1:{ours}", real.removeprefix("http://"))
    return text


def start_nginx(processes: Processes, folder: Path, service: str, servers: Servers) -> str:
    """Runs nginx with the configuration of docs/proxies.md, but without TLS; its URL."""
    port = free_port()
    for path, text in nginx_files(service).items():
        text = adapt(text, servers).replace("/etc/nginx/", f"{folder}/")
        text = text.replace("listen 443 ssl http2;", f"listen 127.0.0.1:{port};")
        text = re.sub(r"^ *ssl_certificate.*\n", "", text, flags=re.M)
        text = text.replace("TAILBOARD_PROXY_SECRET", SECRET)
        (folder / Path(path).name).write_text(text)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {temporary} include {folder}/tailboard.conf; }}\n"
    )
    url = f"http://127.0.0.1:{port}"
    processes.start("nginx", "-e", "stderr", "-c", f"{folder}/nginx.conf")
    wait_for_listener(processes, port)
    return url


def start_caddy(processes: Processes, folder: Path, servers: Servers) -> str:
    """Runs Caddy with the configuration of docs/proxies.md, but without TLS; its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    text = adapt(caddyfile(), servers).replace("tailboard.example.org {", f"{url} {{")
    options = "{\n\tadmin off\n\tauto_https off\n}\n"
    (folder / "Caddyfile").write_text(options + text)
    command = ("caddy", "run", "--adapter", "caddyfile", "--config", f"{folder}/Caddyfile")
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    processes.start(*command, TAILBOARD_PROXY_SECRET=SECRET, **home)
    wait_for_listener(processes, port)
    return url


def wait_for_listener(processes: Processes, port: int) -> None:
    def listens() -> bool:
        assert processes.started[-1].poll() is None, processes.text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    wait_until(listens, 30, processes.text)


@contextmanager
def sign_in_service() -> Iterator[str]:
    """The URL of a stand-in for oauth2-proxy or Authelia."""
    with serve(answer_proxy) as url:
        yield url


# --- A proxy in front of servers ------------------------------------------------------------------

# Headers by which a client tries to be somebody else.
FORGED = {"Remote-User": "root", "Remote-Groups": "admins", "X-Tailboard-Proxy": SECRET}


KINDS = [(name, is_real) for name in SETUPS for is_real in (False, True)]


def kind_id(kind: tuple[str, bool]) -> str:
    return f"{kind[0]}{'' if kind[1] else ', stand-in'}"


@contextmanager
def start_proxy(
    name: str, is_real: bool, factory: pytest.TempPathFactory, servers: Servers
) -> Iterator[str]:
    """The URL of a setup of docs/proxies.md in front of these servers."""
    if not is_real:
        stand_in = StandIn(SETUPS[name], servers)
        yield stand_in.url
        stand_in.close()
        return
    program, service = name.split(" and ")
    if not shutil.which(program.lower()):
        pytest.skip(f"{program} is not installed")
    folder = factory.mktemp(program)
    processes = Processes(folder / "output.txt", clean_environment(folder))
    try:
        if program == "nginx":
            url = start_nginx(processes, folder, service, servers)
        else:
            url = start_caddy(processes, folder, servers)
        yield url
    finally:
        processes.end()


def ask(url: str, path: str, visitor: str, **headers: str) -> requests.Response:
    """A GET by a browser in which this visitor has signed in; "": nobody has."""
    cookies = {"session": visitor} if visitor else {}
    return requests.get(
        url + path, headers=headers, cookies=cookies, allow_redirects=False, timeout=30
    )
