"""Which URLs receivers may have, which addresses are refused whatever they are called, and what a secret is."""

from ipaddress import ip_address

import pytest

from jobtrail.outbound import Outbound, key_of, new_secret
from support.urls import URLS

PUBLIC = ["93.184.215.14", "1.1.1.1", "2606:2800:21f:cb07::1", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"]

REFUSED = [
    "0.1.2.3", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b:1::1", "2002:7f00:1::", "2002:c0a8:101::1", "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:db8::1",
    "2001:2::1", "2001:20::1", "3fff::1", "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
    "100::1", "5f00::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_connected_to(address: str) -> None:
    assert not Outbound().refuses("hooks.test", ip_address(address))


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused_unless_it_is_allowed(address: str) -> None:
    found = ip_address(address)
    assert Outbound().refuses("hooks.test", found)
    assert not Outbound.of(["0.0.0.0/0", "::/0"]).refuses("hooks.test", found)
    assert not Outbound.of(["HOOKS.test"]).refuses("hooks.test", found)
    assert Outbound.of(["other.test"]).refuses("hooks.test", found)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com", "https://example.com/hooks?a=b", "https://example.com:443/", "https://example.com:80/",
        "https://xn--bcher-kva.example/", "https://a-b.c_d.example/", "https://93.184.215.14/", "HTTPS://Example.COM/",
        "https://[2606:2800:21f:cb07::1]/x",
    ],
)  # fmt: skip
def test_a_url_of_a_receiver(url: str) -> None:
    assert Outbound().flaw_of(url) is None


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://example.com/", "write https"), ("https://example.com:8443/", "port 8443 is for"),
        ("https://example.com:99999/", "Port out of range"), ("https://u:p@example.com/", "names a user"),
        ("https://@example.com/", "names a user"), ("https://example.com/#a", "leave out"), ("", "write it in"),
        ("example.com", "write a URL"), ("ftp://example.com/", "write a URL"), ("https:///x", "write a URL"),
        ("https://", "write a URL"), ("file:///etc/passwd", "write a URL"), ("https://exa mple.com/", "write it in"),
        ("https://example.com\\@127.0.0.1/", "write it in"), ("https://bücher.example/", "write it in"),
        ("https://example.com/\n", "write it in"), ("https://example.com/\0", "write it in"),
        ("https://[::1", ""), ("https://[fe80::1%25eth0]/", ""), ("https://[not]/", ""),
        ("https://-a.example/", "no name"),
        ("https://a..example/", "no name"), ("https://example.com./", "no name"), ("https://" + "a" * 2000, "2008"),
        # this machine and its network, however they are written
        ("https://localhost/", "not public"), ("https://api.localhost/", "not public"), ("https://127.0.0.1/", "not"),
        ("https://[::1]/", "not public"), ("https://[::ffff:127.0.0.1]/", "not public"), ("https://10.0.0.1/", "not"),
        ("https://2130706433/", "no name"), ("https://0x7f000001/", "no name"), ("https://0x7f.1/", "no name"),
        ("https://127.1/", "no name"), ("https://0177.0.0.1/", "no name"), ("https://017700000001/", "no name"),
        ("https://127.0.0.1./", "no name"), ("https://%31%32%37.0.0.1/", "no name"), ("https://①②⑦.0.0.1/", "write it"),
        ("https://0/", "no name"), ("https://1.0x1/", "no name"),
    ],
)  # fmt: skip
def test_what_is_no_url_of_a_receiver(url: str, why: str) -> None:
    flaw = Outbound().flaw_of(url)
    assert flaw is not None
    assert why in flaw


@pytest.mark.parametrize("url", URLS)
def test_urls_as_somebody_may_write_them(url: str) -> None:
    flaw, why = Outbound().flaw_of(url), URLS[url]
    assert (flaw is None) == (why is None)
    assert (why or "") in (flaw or "")
    if why is not None and "65535" not in url:
        assert Outbound.of(["0.0.0.0/0", "::/0", "example.com"]).flaw_of(url) == flaw, "no setting lets it through"


def test_what_settings_allow_is_taken_over_http_and_at_any_port() -> None:
    outbound = Outbound.of(["127.0.0.1", "10.0.0.0/8", "hooks.internal"])
    for host in ("127.0.0.1", "10.9.8.7", "hooks.internal", "HOOKS.internal"):
        assert outbound.flaw_of(f"http://{host}:8080/x") is None
    for host in ("127.0.0.2", "11.0.0.1", "a.hooks.internal", "hooks.internal.example"):
        assert outbound.flaw_of(f"http://{host}:8080/x") is not None


@pytest.mark.parametrize("word", ["10.0.0.1/8", "*.internal", "127.1", "http://x", "a b", "[::1]", "10.0.0.0/33"])
def test_what_cannot_be_allowed(word: str) -> None:
    with pytest.raises(ValueError, match="neither the name of a host nor a network"):
        Outbound.of([word])


def test_a_secret() -> None:
    assert len(key_of(new_secret())) == 32
    assert new_secret() != new_secret()


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_" + "A" * 28, "whsec_" + "A" * 88, "A" * 44, "whsec_" + "!" * 44]
)
def test_a_secret_that_is_too_short_too_long_or_none(secret: str) -> None:
    with pytest.raises(ValueError, match="24 to 64 random bytes") as raised:
        key_of(secret)
    assert len(secret) < 10 or secret not in str(raised.value)
