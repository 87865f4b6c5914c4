"""The headers in which a proxy names the visitor: which requests they let in."""

from __future__ import annotations

import pytest

from tailboard.proxy_headers import LOOPBACK, ProxyRefused, ProxyRules, ProxyUser, parse_networks

SECRET = "a secret of the proxy"
RULES = ProxyRules("Remote-User", "Remote-Groups", SECRET)
PROOF = ("X-Tailboard-Proxy", SECRET)
ANNA = ("Remote-User", "anna")


def find(
    *headers: tuple[str, str], peer: str | None = "127.0.0.1", rules: ProxyRules = RULES
) -> ProxyUser | None:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    return rules.find_user(raw, peer)


def test_a_proven_proxy_names_the_visitor_and_the_groups() -> None:
    assert find(PROOF, ANNA) == ProxyUser("anna")
    groups = ("Remote-Groups", " admins, dev,,ops team ")
    assert find(PROOF, ANNA, groups) == ProxyUser("anna", ("admins", "dev", "ops team"))
    assert find(PROOF, ("REMOTE-USER", "jürgen@example.org")) == ProxyUser("jürgen@example.org")
    for peer in ("::1", "127.8.9.1", "::ffff:127.0.0.1", None):
        assert find(PROOF, ANNA, peer=peer) == ProxyUser("anna")
    assert find(("Accept", "*/*")) is None  # the caller decides
    sent = RULES.headers_of(ProxyUser("anna", ("admins", "dev")))
    assert find(*sent.items()) == ProxyUser("anna", ("admins", "dev"))


@pytest.mark.parametrize(
    "headers",
    [
        [ANNA],
        [PROOF],
        [("Remote-Groups", "admins")],
        [PROOF, ("Remote-Groups", "admins")],
        [("X-Tailboard-Proxy", ""), ANNA],
        [("X-Tailboard-Proxy", SECRET[:-1]), ANNA],
        [("X-Tailboard-Proxy", f"{SECRET}, {SECRET}"), ANNA],
        [PROOF, PROOF, ANNA],
        [PROOF, ANNA, ANNA],
        [PROOF, ANNA, ("Remote-User", "root")],
        [PROOF, ANNA, ("Remote_User", "root")],
        [PROOF, ("Remote_User", "anna")],
        [("X_Tailboard_Proxy", SECRET), ANNA],
        [PROOF, ANNA, ("Remote-Groups", "dev"), ("Remote-Groups", "admins")],
        [PROOF, ANNA, ("Remote-Groups", "dev"), ("Remote_Groups", "admins")],
        [PROOF, ("Remote-User", "")],
        [PROOF, ("Remote-User", "anna,root")],
        [PROOF, ("Remote-User", "anna root")],
        [PROOF, ("Remote-User", "-anna")],
        [PROOF, ("Remote-User", "a" * 65)],
        [PROOF, ("Remote-User", "anna\x00")],
    ],
)
def test_headers_that_are_not_all_right_are_refused(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(ProxyRefused) as refused:
        find(*headers)
    assert SECRET not in str(refused.value)


def test_a_name_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(ProxyRefused):
        RULES.find_user([(b"x-tailboard-proxy", SECRET.encode()), (b"remote-user", b"\xff")], None)


def test_only_listed_addresses_are_those_of_a_proxy() -> None:
    for peer in ("10.0.0.7", "192.0.2.1", "::2", "127.0.0.1.evil.test", ""):
        with pytest.raises(ProxyRefused, match="TAILBOARD_PROXIES"):
            find(PROOF, ANNA, peer=peer)
    networks = parse_networks("TAILBOARD_PROXIES", "10.0.0.7, 10.1.0.0/16,fd00::/8")
    listed = ProxyRules("Remote-User", "", SECRET, networks)
    for peer in ("10.0.0.7", "10.1.255.1", "fd00::5", "::ffff:10.0.0.7", "127.0.0.1"):
        assert find(PROOF, ANNA, peer=peer, rules=listed) == ProxyUser("anna")
    for peer in ("10.0.0.8", "fe80::5"):
        with pytest.raises(ProxyRefused):
            find(PROOF, ANNA, peer=peer, rules=listed)


def test_without_a_user_header_a_proxys_proof_is_refused_and_not_ignored() -> None:
    with pytest.raises(ProxyRefused, match="TAILBOARD_USER_HEADER"):
        find(PROOF, ANNA, rules=ProxyRules())
    assert find(ANNA, rules=ProxyRules()) is None  # nobody has asked for this header


def test_a_list_of_proxies_has_addresses_and_networks() -> None:
    assert parse_networks("TAILBOARD_PROXIES", "") == LOOPBACK
    for text in ("10.0.0.1/16", "proxy.example.org", "10.0.0.1,,", "*"):
        with pytest.raises(ValueError, match="TAILBOARD_PROXIES must be"):
            parse_networks("TAILBOARD_PROXIES", text)
