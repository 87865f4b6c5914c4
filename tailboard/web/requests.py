"""The parts of a request: its JSON body, its query, its Idempotency-Key."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from flask import abort, request

from tailboard.web.models import Submission, bounded_int

KEY_CONTROL_RE = re.compile("[\x00-\x08\x0a-\x1f]")  # also refuses our own keys, see keys.py


def json_body(default: object) -> object:
    """The JSON of the body; `default` if it is empty. 400 names the mistake and its place."""
    if not has_body():
        return default
    try:
        return parse_json(request.get_data())
    except ValueError as error:
        abort(400, f"the body is not JSON: {error}")


def parse_json(content: bytes) -> Any:
    """The JSON value. ValueError names the mistake and its place."""
    try:
        return json.loads(content, object_pairs_hook=unique_fields, parse_int=bounded_int)
    except json.JSONDecodeError as error:
        what = re.sub(" (starting )?at$", "", error.msg)
        place = f"at line {error.lineno}, column {error.colno}"
        raise ValueError(f"{what[0].lower()}{what[1:]} {place}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None


def unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError if a field appears twice, since either might be meant."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the field {name[:80]!r} appears twice")
        found[name] = value
    return found


def query_parameters() -> dict[str, str]:
    """The parameters of the request; 400 if one is set twice, since either might be meant."""
    for name, values in request.args.lists():
        if len(values) > 1:
            abort(400, f"the parameter {name[:80]!r} appears twice")
    return request.args.to_dict()


def has_body() -> bool:
    return bool(request.content_length) or "Transfer-Encoding" in request.headers


def canonical(wanted: Submission, body: Any) -> dict[str, Any]:
    """The content of a body, independent of how the client writes it. Fields with their defaults
    are left out: a field that a later version adds must not change the content of a repeated
    request."""
    content = wanted.model_dump(exclude_defaults=True, exclude={"submitted_by"})
    if wanted.not_before is not None:
        # As sent: +10m is a different time for each request.
        content["not_before"] = body["not_before"]
    return content


def idempotency_key() -> str | None:
    """The request's Idempotency-Key; 400 if it is empty or contains control characters."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not key.strip():
        abort(400, "Idempotency-Key must not be empty")
    if key is not None and KEY_CONTROL_RE.search(key):  # some servers accept them
        abort(400, "Idempotency-Key must not contain control characters")
    return key


def seen_etag() -> str | None:
    """The ETag that the resource must have according to If-Match, or "" if it must not exist
    according to If-None-Match; None if the request has neither. 400 if it asks for another
    condition."""
    if request.if_none_match.star_tag:
        return ""
    if "If-None-Match" in request.headers:
        abort(400, "If-None-Match must be *")
    if "If-Match" not in request.headers:
        return None
    tags = request.if_match.as_set()
    if len(tags) != 1 or request.if_match.star_tag:
        abort(400, "If-Match must be one ETag")
    return str(tags.pop())


def hash_request(content: object) -> str:
    """The hash of the request's method, path and content, which distinguishes it from others with
    the same Idempotency-Key. The sender is left out: two people, or two CI machines, that send the
    same request with the same key want one job."""
    text = json.dumps([request.method, request.path, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
