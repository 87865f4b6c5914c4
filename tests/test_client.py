"""The client in Python, over real HTTP: when it repeats requests, logs over lost connections and
restarts of the API, and servers that are something else."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import BY_HAND, BY_WORKER, TOKEN, Site, serve_site, wait_until
from other_servers import Answer, Request, json_answer, serve, serve_bytes, silent_server
from proxy import Proxy

import tailboard.client
from tailboard.client import ApiError, Client, Unreachable
from tailboard.client_stream import iter_lines
from tailboard.errors import JobNotFound
from tailboard.folder.claim import Claim
from tailboard.log_limit import LogSupervisor
from tailboard.status import Status

NOT_TAILBOARD = "is not Tailboard's API"


@pytest.fixture
def client(served: Site) -> Iterator[Client]:
    with Client(served.url, "") as client:
        yield client


@pytest.fixture
def proxy(site: Site) -> Iterator[Proxy]:
    """A proxy before the shared API."""
    proxy = Proxy(int(site.url.rpartition(":")[2]))
    yield proxy
    proxy.close()


def through(proxy: Proxy, **options: Any) -> Client:
    return Client(f"http://127.0.0.1:{proxy.port}", "", **options)


@contextmanager
def in_thread(call: Callable[[], Any]) -> Iterator[Future[Any]]:
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(call)


# --- Jobs, saved commands, queues -----------------------------------------------------------------


def test_a_job_is_submitted_followed_and_waited_for(client: Client) -> None:
    job = client.submit("echo $A; echo two; exit 3", queue=BY_WORKER, name="n", env={"A": "行"})
    assert (job["status"], job["name"]) == ("queued", "n")
    assert list(client.follow(job["id"])) == ["行", "two"]
    ended = client.wait(job["id"])
    assert (ended["status"], ended["exit_code"]) == ("failed", 3)
    assert client.logs(job["id"], tail=1) == "two\n"
    assert client.logs(job["id"], since="1h") == "行\ntwo\n"
    assert b"".join(client.read_log(job["id"], tail=1)) == b"two\n"
    again = client.rerun(job["id"])
    assert client.wait(again["id"])["rerun_of"] == job["id"]
    client.delete(again["id"])
    with pytest.raises(ApiError, match=f"there is no job '{again['id']}'") as caught:
        client.job(again["id"])
    assert (caught.value.status, caught.value.problem["title"]) == (404, "Not Found")


def test_a_program_with_arguments_is_not_a_line_for_a_shell(client: Client) -> None:
    job = client.submit(("echo", "$HOME"), queue=BY_WORKER)
    assert list(client.follow(job["id"])) == ["$HOME"]


def test_a_list_has_all_pages_or_only_the_newest_jobs(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailboard.client, "PAGE_SIZE", 2)
    ids = [client.submit("true", queue="pages")["id"] for _ in range(5)]
    assert [job["id"] for job in client.jobs(queue="pages")] == ids[::-1]
    assert [job["id"] for job in client.jobs(queue="pages", limit=3)] == ids[:1:-1]
    assert [job["id"] for job in client.jobs(queue="pages", before=ids[1])] == ids[:1]
    assert list(client.jobs(queue="pages", limit=0)) == []


def test_waiting_ends_after_its_time(client: Client) -> None:
    job_id = client.submit("true", queue=BY_HAND)["id"]
    assert client.wait(job_id, 0)["status"] == "queued"
    assert client.wait(job_id, 0.2)["status"] == "queued"
    assert client.cancel(job_id)["status"] == "cancelled"
    assert client.wait(job_id)["status"] == "cancelled"
    assert list(client.follow(job_id)) == []
    with pytest.raises(ApiError, match="has already been cancelled") as caught:
        client.cancel(job_id)
    assert caught.value.status == 409


def test_saved_commands_are_saved_run_and_deleted(client: Client) -> None:
    definition = {"command": "echo $WORD", "queue": BY_WORKER, "params": [{"name": "WORD"}]}
    assert client.save("client-test", definition) and not client.save("client-test", definition)
    assert "client-test" in [each["saved"] for each in client.saved()]
    assert client.saved_command("client-test")["command"] == "echo $WORD"
    job = client.run_saved("client-test", {"WORD": "x"}, idempotency_key="client-test-1")
    assert (
        client.run_saved("client-test", {"WORD": "x"}, idempotency_key="client-test-1")["id"]
        == job["id"]
    )
    assert list(client.follow(job["id"])) == ["x"]
    client.delete_saved("client-test")
    with pytest.raises(ApiError, match="no saved command 'client-test'"):
        client.saved_command("client-test")


def test_queues_are_paused_and_resumed(client: Client) -> None:
    assert client.pause("client-test", "a freeze", "anna")["why"] == "a freeze"
    (queue,) = [each for each in client.queues() if each["queue"] == "client-test"]
    assert queue["paused"]["by"] == "anna"
    client.resume("client-test")
    client.resume("client-test")
    assert "client-test" not in [each["queue"] for each in client.queues()]
    assert client.workers()["storage"]["kind"] == "folder"


def test_the_environment_names_the_server_and_the_token(
    locked: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILBOARD_API", f"{locked.url}/")
    with Client() as nameless, pytest.raises(ApiError, match="the token is missing") as caught:
        nameless.me()
    assert caught.value.status == 401
    monkeypatch.setenv("TAILBOARD_TOKEN", TOKEN)
    with Client() as known:
        assert known.me()["name"] is None


# --- Repeated requests ----------------------------------------------------------------------------


def test_a_request_is_repeated_while_the_server_or_its_proxy_is_busy() -> None:
    answers = [Answer(503), Answer(502), None, Answer(504), json_answer({"name": "anna"})]
    with serve(lambda request: answers.pop(0)) as url, Client(url, "") as client:
        assert client.me()["name"] == "anna"
    assert not answers


def test_a_submit_is_repeated_with_its_key_and_anything_else_only_if_it_is_harmless() -> None:
    asked: list[Request] = []

    def fail_twice(request: Request) -> Answer | None:
        asked.append(request)
        job = {"id": "x", "status": "queued"}
        return json_answer(job, 201) if len(asked) % 3 == 0 else None

    with serve(fail_twice) as url, Client(url, "") as client:
        client.submit("true")
        client.rerun("x", idempotency_key="zwölf")
        keys = [request.headers["Idempotency-Key"] for request in asked]
        assert len(set(keys[:3])) == 1 and len(set(keys)) == 2
        assert keys[3].encode("latin-1").decode() == "zwölf"
        client.cancel("x")
        with pytest.raises(Unreachable, match="does not respond") as caught:
            client.request("POST", "/jobs", body={})
        assert caught.value.is_sent
    assert len(asked) == 10


def test_a_wrong_request_is_not_repeated() -> None:
    asked: list[Request] = []

    def refuse(request: Request) -> Answer:
        asked.append(request)
        return json_answer({"detail": "timeout must be a number"}, 400)

    with serve(refuse) as url, Client(url, "") as client:
        with pytest.raises(ApiError, match=r"^timeout must be a number$"):
            client.submit("true", timeout="x")
    assert len(asked) == 1


@pytest.mark.parametrize("action", ["cancel", "delete", "submit"])
def test_a_lost_response_makes_no_difference(site: Site, proxy: Proxy, action: str) -> None:
    storage, queue = site.job_maker.storage, f"lost-{action}"
    job_id = site.job_maker.queued(queue=BY_HAND).id
    if action == "delete":
        storage.cancel(job_id, "")

    def is_done() -> bool:
        if action == "submit":
            return bool(storage.list(queue=queue)[0])
        try:
            return storage.get(job_id).status is Status.CANCELLED and action == "cancel"
        except JobNotFound:
            return True

    proxy.drops_answers.set()
    calls: dict[str, Callable[[], Any]] = {
        "cancel": lambda: client.cancel(job_id)["status"],
        "delete": lambda: client.delete(job_id),
        "submit": lambda: client.submit("true", queue=queue)["id"],
    }
    with through(proxy) as client, in_thread(calls[action]) as result:
        wait_until(is_done)
        proxy.drops_answers.clear()
        jobs = storage.list(queue=queue)[0]
        expected = {"cancel": "cancelled", "delete": None, "submit": jobs[0].id if jobs else ""}
        assert result.result() == expected[action]
    assert len(storage.list(queue=queue)[0]) == (action == "submit")


# --- A restart of the API -------------------------------------------------------------------------

BEFORE = b"one\ntwo \xff\nthr"
DURING = b"ee\n" + bytes(range(256)) * 300
AFTER = "\n行 last".encode()
WHOLE = BEFORE + DURING + AFTER


class Restarted(NamedTuple):
    """What four clients got while the API was killed and started again."""

    stream: bytes
    lines: list[str]
    outages: list[ApiError]
    ended: dict[str, Any]
    submitted: str
    jobs: list[str]


@pytest.fixture(scope="module")
def restarted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restarted]:
    base = tmp_path_factory.mktemp("restarted")
    with serve_site(base) as site, ThreadPoolExecutor(4) as pool:
        proxy = Proxy(int(site.url.rpartition(":")[2]))
        proxy.drops_answers.set()
        try:
            yield restart(site, proxy, pool)
        finally:
            proxy.close()


def restart(site: Site, proxy: Proxy, pool: ThreadPoolExecutor) -> Restarted:
    claim = site.job_maker.running(BEFORE)
    job_id, storage = claim.job.id, site.job_maker.storage
    seen, lines, outages = bytearray(), list[str](), list[ApiError]()
    stream = Client(site.url, "").stream(job_id, on_outage=outages.append)
    streamed = pool.submit(lambda: seen.extend(b"".join(iter_into(stream, seen))))
    followed = pool.submit(lambda: lines.extend(Client(site.url, "").follow(job_id)))
    waited = pool.submit(lambda: Client(site.url, "").wait(job_id))
    submitted = pool.submit(lambda: through(proxy, patience=120).submit("true", queue="once")["id"])
    wait_until(lambda: bytes(seen) == BEFORE and storage.list(queue="once")[0])

    (api, *_) = site.processes.started
    api.kill()
    api.wait()
    site.job_maker.write(claim, DURING)
    wait_until(lambda: outages, describe=site.processes.text)
    proxy.drops_answers.clear()
    health, bind = f"{site.url}/healthz", site.url.removeprefix("http://")
    site.processes.serve(health, sys.executable, "api.py", TAILBOARD_BIND=bind)
    wait_until(lambda: bytes(seen) == BEFORE + DURING, describe=site.processes.text)
    site.job_maker.write(claim, AFTER)
    site.job_maker.finish(claim, Status.FAILED, 7)
    for future in (streamed, followed):
        future.result()
    jobs = [job.id for job in storage.list(queue="once")[0]]
    return Restarted(bytes(seen), lines, outages, waited.result(), submitted.result(), jobs)


def iter_into(chunks: Iterator[bytes], seen: bytearray) -> Iterator[bytes]:
    """Appends the chunks to `seen` as they arrive."""
    for data in chunks:
        seen += data
    return iter(())


def test_no_byte_is_lost_or_repeated_if_the_api_restarts(restarted: Restarted) -> None:
    assert restarted.stream == WHOLE
    assert restarted.lines == WHOLE.decode(errors="replace").split("\n")


def test_an_outage_is_reported_once(restarted: Restarted) -> None:
    (outage,) = restarted.outages
    assert isinstance(outage, Unreachable) and "cannot connect to the server" in str(outage)


def test_waiting_continues_after_a_restart(restarted: Restarted) -> None:
    assert (restarted.ended["status"], restarted.ended["exit_code"]) == ("failed", 7)


def test_a_submit_during_a_restart_submits_one_job(restarted: Restarted) -> None:
    assert restarted.jobs == [restarted.submitted]


# --- Streams --------------------------------------------------------------------------------------


@pytest.fixture
def running(site: Site) -> Iterator[Claim]:
    """A job that runs until the test is over, or until the test ends it."""
    claim = site.job_maker.running()
    yield claim
    claim.release()


def test_a_stream_over_many_lost_connections_is_exact(
    site: Site, proxy: Proxy, running: Claim
) -> None:
    dice = random.Random(29)
    parts = [dice.randbytes(dice.randrange(1, 200_000)) for _ in range(5)]
    seen = bytearray()
    with through(proxy) as client:
        chunks = client.stream(running.job.id)
        with in_thread(lambda: list(iter_into(chunks, seen))) as result:
            for count, part in enumerate(parts, 1):
                site.job_maker.write(running, part)
                whole = b"".join(parts[:count])
                # Of an incomplete character, the rest may follow.
                wait_until(lambda whole=whole: len(seen) >= len(whole) - 3)  # type: ignore[misc]
                proxy.drop()
            site.job_maker.finish(running)
            result.result()
    assert bytes(seen) == b"".join(parts)


def test_a_stream_begins_at_the_requested_place(site: Site, client: Client) -> None:
    job_id = site.job_maker.ended(b"1\n2\n3")
    places: list[dict[str, Any]] = [{"tail": 2}, {"offset": 2}, {"tail": "2"}, {"since": "1h"}]
    assert [list(client.follow(job_id, **place)) for place in places] == [
        *[["2", "3"]] * 3,
        ["1", "2", "3"],
    ]
    with pytest.raises(ApiError, match="use only one of offset and tail"):
        list(client.stream(job_id, offset=0, tail=1))
    with pytest.raises(ApiError, match="at most 5, the size of the log"):
        list(client.stream(job_id, offset=6))


def test_a_job_that_is_deleted_ends_its_stream_with_an_error(
    site: Site, client: Client, running: Claim
) -> None:
    site.job_maker.write(running, b"line\n")
    lines = client.follow(running.job.id, on_outage=lambda error: pytest.fail(str(error)))
    assert next(lines) == "line"
    shutil.rmtree(site.job_maker.log(running.job.id).parent)
    with pytest.raises(ApiError, match="there is no job") as caught:
        next(lines)
    assert caught.value.status == 404


def test_deleted_parts_of_a_log_are_reported(site: Site, client: Client, running: Claim) -> None:
    """A log is trimmed to its newest bytes while the job runs."""
    lines = b"".join(b"%d\n" % number for number in range(100_000))
    site.job_maker.write(running, lines)
    log = site.job_maker.log(running.job.id)
    supervisor = LogSupervisor(str(log), os.open(log.parent / "times", os.O_RDWR | os.O_CREAT))
    assert supervisor.sample_and_trim(1 << 17)
    supervisor.close()
    site.job_maker.finish(running)
    start = client.job(running.job.id)["log_start"]
    expected = b"[%d bytes missing]\n" % start + lines[start:]
    assert start > 0 and b"".join(client.stream(running.job.id)) == expected
    assert b"".join(client.read_log(running.job.id)) == lines[start:]
    followed = b"".join(client.stream(running.job.id, offset=1))
    assert followed == b"[%d bytes missing]\n" % (start - 1) + lines[start:]


def test_a_log_that_is_truncated_during_an_outage_is_followed_from_its_end(
    site: Site, proxy: Proxy, running: Claim
) -> None:
    site.job_maker.write(running, b"0123456789\nab")
    outages: list[ApiError] = []
    seen = bytearray()
    with through(proxy) as client:
        chunks = client.stream(running.job.id, on_outage=outages.append)
        with in_thread(lambda: list(iter_into(chunks, seen))) as result:
            wait_until(lambda: seen)
            target, proxy.target = proxy.target, 1  # nothing listens there
            proxy.drop()
            wait_until(lambda: outages)
            os.truncate(site.job_maker.log(running.job.id), 4)
            proxy.target = target
            wait_until(lambda: b"truncated" in seen)
            site.job_maker.write(running, b"new\n")
            site.job_maker.finish(running)
            result.result()
    assert bytes(seen) == b"0123456789\nab\n[the log was truncated]\nnew\n"


def test_a_stream_is_given_up_after_its_time(site: Site, proxy: Proxy, running: Claim) -> None:
    site.job_maker.write(running, b"line\n")
    with through(proxy) as client:
        lines = client.follow(running.job.id, reconnect_for=0.3)
        assert next(lines) == "line"
        proxy.target = 1
        proxy.drop()
        with pytest.raises(Unreachable, match="does not respond"):
            next(lines)


def test_a_huge_line_takes_linear_time() -> None:
    """Appending each block to the line that has not ended would take quadratic time."""

    def measure(blocks: int) -> float:
        begun = time.thread_time()
        (line,) = iter_lines([b"x" * 4096] * blocks)
        assert len(line) == 4096 * blocks
        return time.thread_time() - begun

    short = min(measure(500) for _ in range(3))
    assert min(measure(4_000) for _ in range(3)) < 30 * short


# --- Other servers --------------------------------------------------------------------------------


def test_a_server_that_never_responds_is_reported_after_the_patience() -> None:
    with silent_server() as url, Client(url, "", patience=0.3) as client:
        for call in (client.me, lambda: client.wait("x"), lambda: next(client.stream("x"))):
            with pytest.raises(Unreachable, match=f"the server at {url} does not respond"):
                call()


@pytest.mark.parametrize(
    ("answer", "reported"),
    [
        (Answer(200, b"<html>"), "it responds with 200 OK"),
        (Answer(404, b"<html>"), "it responds with 404 Not Found"),
        (json_answer([]), "it responds with 200 OK"),
        (json_answer({"a": 1}), "it responds with 200 OK"),
        (json_answer({"error": "x"}, 401), "it responds with 401 Unauthorized"),
        (Answer(302, b"", {"Location": "/sign-in?to=me"}), "it responds with 302 Found"),
    ],
)
def test_a_server_that_is_not_tailboard_is_recognized(answer: Answer, reported: str) -> None:
    with serve(lambda request: answer) as url, Client(url, "") as client:
        calls = (
            client.me,
            client.saved,
            client.workers,
            lambda: client.submit("true"),
            lambda: client.wait("x"),
            lambda: list(client.jobs()),
            lambda: list(client.stream("x")),
            lambda: list(client.read_log("x")),
        )
        for call in calls:
            with pytest.raises(ApiError) as caught:
                call()
            assert str(caught.value) == f"the server at {url} {NOT_TAILBOARD}: {reported}"


def test_a_server_that_does_not_speak_http_is_recognized() -> None:
    with serve_bytes(b"SSH-2.0-OpenSSH_9.2\r\n") as url, Client(url, "") as client:
        with pytest.raises(ApiError, match="is not Tailboard's API: it sends no HTTP"):
            client.me()


def test_a_redirection_names_the_address_to_use() -> None:
    def redirect(request: Request) -> Answer:
        return Answer(308, b"", {"Location": f"https://ci.example.org/tb{request.path}"})

    with serve(redirect) as url, Client(url, "") as client:
        with pytest.raises(ApiError) as caught:
            list(client.jobs(q="x"))
    moved = "redirects to https://ci.example.org/tb: use that address"
    assert str(caught.value) == f"the server at {url} {moved}"


@pytest.mark.parametrize(
    ("url", "reported"),
    [
        ("ci.example.org", "ci.example.org is not the URL of a server"),
        ("ftp://ci.example.org", "ftp://ci.example.org is not the URL of a server"),
        ("http://127.0.0.1:99999", "http://127.0.0.1:99999 is not the URL of a server"),
        ("http://[::1", "http://[::1 is not the URL of a server"),
        ("http://127.0.0.1:1", "cannot connect to the server at http://127.0.0.1:1"),
    ],
)
def test_a_wrong_address_is_reported_in_one_sentence(url: str, reported: str) -> None:
    with Client(url, "", patience=0.05) as client, pytest.raises(ApiError) as caught:
        client.me()
    assert str(caught.value).startswith(reported)


def test_a_server_without_tls_is_reported(site: Site) -> None:
    url = site.url.replace("http:", "https:")
    with Client(url, "") as client, pytest.raises(ApiError, match="the server does not use TLS"):
        client.me()


@pytest.mark.parametrize(
    ("call", "reported"),
    [
        (
            lambda client: client.submit("true", idempotency_key="a\nb"),
            "must be one line without spaces",
        ),
        (lambda client: client.submit("true", timeout=float("nan")), "cannot be sent as JSON"),
        (lambda client: list(client.jobs(q="\udcff")), "text that is not valid Unicode"),
        (lambda client: client.job("\udcff"), "there is no job"),
        (lambda client: client.job("../healthz"), "there is no '/jobs/../healthz'"),
    ],
)
def test_a_value_that_cannot_be_sent_is_reported(
    client: Client, call: Callable[[Client], Any], reported: str
) -> None:
    with pytest.raises(ApiError, match=reported):
        call(client)


@pytest.mark.parametrize("token", ["a\nb", " a"])
def test_a_token_that_cannot_be_sent_is_reported(site: Site, token: str) -> None:
    with Client(site.url, token) as client, pytest.raises(ApiError, match="must be one line"):
        client.me()


def test_an_ipv6_address_and_a_path_belong_to_the_url() -> None:
    asked: list[Request] = []

    def respond(request: Request) -> Answer:
        asked.append(request)
        return json_answer({"name": "anna"})

    with serve(respond, "::1") as url, Client(f"{url}/tools/tb/", "ünï") as client:
        assert client.me()["name"] == "anna"
    assert asked[0].path == "/tools/tb/me"
    assert asked[0].headers["Authorization"].encode("latin-1").decode() == "Bearer ünï"


def test_a_proxy_is_used_for_other_machines_only(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []

    def respond(request: Request) -> Answer:
        asked.append(request)
        return json_answer({"name": "anna"})

    with serve(respond) as url:
        monkeypatch.setenv("http_proxy", url)
        with Client("http://ci.example.org/tb", "") as client:
            assert client.me()["name"] == "anna"
        with Client(site.url, "") as client:
            assert client.me()["name"] is None
    assert [request.path for request in asked] == ["http://ci.example.org/tb/me"]
    with Client("http://ci.example.org", "", patience=0.05) as client:
        with pytest.raises(Unreachable, match="through the proxy") as caught:
            client.me()
    assert not caught.value.is_sent


def test_the_client_needs_only_requests() -> None:
    """So it can be copied, and imported without the rest."""
    code = "import sys, tailboard.client; print(*{n.partition('.')[0] for n in sys.modules})"
    root = Path(tailboard.client.__file__).parents[1]
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=root, capture_output=True, text=True).stdout.split()
    assert "requests" in found and not {"flask", "click", "pydantic", "storage"} & set(found)
