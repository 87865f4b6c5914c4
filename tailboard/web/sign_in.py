"""Signing in and out: a browser gets a session key for a token, and uses it until it ends."""

from __future__ import annotations

import hashlib

from flask import Response, abort, g, jsonify

from tailboard.sessions import Session, hash_key, is_session_key, new_session
from tailboard.web.proxy_user import proxy_user
from tailboard.web.state import state
from tailboard.web.tokens import NamedToken


def current_session() -> Session | None:
    """The session whose key the request has; None if it has a token or nothing."""
    session: Session | None = g.get("session")
    return session


def shared_token_hash() -> str:
    return hashlib.sha256(state().settings.token.encode()).hexdigest()


def find_session(key: bytes) -> tuple[Session | None, NamedToken | None]:
    """(the session, the named token that it was made for; None: the shared token). (None, None) if
    this is no session key, or if the session or its token is no longer valid."""
    session = state().store.sessions.find(hash_key(key)) if is_session_key(key) else None
    if session is None:
        return None, None
    if session.name is None:
        is_valid = bool(state().settings.token) and session.belongs_to(key, shared_token_hash())
        return (session if is_valid else None), None
    for each in state().tokens.known:
        if each.name == session.name and session.belongs_to(key, each.sha256):
            return session, each
    return None, None


def start_session() -> Response:
    """A new session for the token of the request; 409 if the API needs no token, or if the request
    comes from a proxy's user; 503 if the token has started too many in the last minute."""
    if proxy_user() is not None:
        abort(409, "the proxy keeps its users signed in, so there is no session to start")
    if not state().needs_token:
        abort(409, "this API needs no token, so there is nothing to sign in to")
    named: NamedToken | None = g.get("named_token")
    if not state().sign_ins.admit(named.name if named else None):
        abort(503, "too many sessions were started with this token; try again in a minute")
    token_hash = named.sha256 if named else shared_token_hash()
    key, session = new_session(token_hash, named.name if named else None)
    state().store.sessions.add(session)
    answer = {"key": key, "expires_at": session.expires_at, "name": session.name}
    response: Response = jsonify(answer)
    response.status_code = 201
    response.headers["Cache-Control"] = "no-store"
    return response


def end_session() -> None:
    """End the session of the request; 404 if the request has a token instead."""
    session = current_session()
    if session is None:
        abort(404, "this request has no session key, so there is no session to end")
    state().store.sessions.end(session.key_sha256)
