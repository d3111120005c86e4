"""The text of a key, and what is made of it."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest

from jobtrail.ops.key_text import KeyRecord, digest, flaws_of, make, matches, parse, prefix_in, shown

PREFIX = "abcdefgh2345"
SECRET = "A-_z0" * 8 + "abc"
TEXT = f"jt_{PREFIX}_{SECRET}"


def test_a_new_key_is_found_by_its_prefix_and_known_by_its_hash() -> None:
    new = make()
    _, prefix, secret = new.text.split("_", 2)
    assert new.text.startswith("jt_")
    assert (len(prefix), len(secret), len(new.text)) == (12, 43, 59)
    assert (parse(new.text), new.prefix) == (prefix, prefix)
    assert new.hash == hashlib.sha256(new.text.encode()).digest() == digest(new.text)


def test_no_two_are_alike() -> None:
    made = [make() for _ in range(2000)]
    assert len({each.text for each in made}) == len({each.prefix for each in made}) == 2000
    assert {len(each.text) for each in made} == {59}
    # every letter that there may be comes in both parts: nothing of them is fixed
    assert len(set("".join(each.prefix for each in made))) == 32
    assert len(set("".join(each.text[16:] for each in made))) == 64


def test_what_is_printed_of_it_is_not_the_key() -> None:
    new = make()
    assert new.text[16:] not in repr(new) + str(new)
    assert str(new.hash) not in repr(new)
    assert new.prefix in repr(new)
    assert {"text", "hash"} & set(KeyRecord.__dataclass_fields__) == set()


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "jt_", "_", TEXT[:-1], TEXT[:30], TEXT[:16], TEXT[:15], TEXT[1:], TEXT + "A", TEXT + "\n", " " + TEXT,
        TEXT.upper(), TEXT.replace("jt_", "JT_"), TEXT.replace("jt_", "jt-"), TEXT.replace("abc", "ab1", 1),
        TEXT.replace("abc", "ABC", 1), TEXT.replace("z", "é", 1), TEXT.replace("z", "=", 1), TEXT.replace("z", ".", 1),
        TEXT.replace("5_", "5", 1), f"Bearer {TEXT}", f"{TEXT} {TEXT}", TEXT.replace("2", "\uff12"), "\0" * 59,
        "\ud800" * 59, "é" * 59, "😀" * 59, "x" * 59, "_" * 59, "\n" * 59, TEXT * 1_000, TEXT[:-1] + "\0",
        "jt_" + "a" * 5_000_000, "\ud800" * 1_000_000,
    ],
)  # fmt: skip
def test_what_has_not_the_form_of_a_key_has_no_prefix(text: str) -> None:
    assert parse(text) is None
    assert len(digest(text)) == 32


def test_what_has_the_form_has_one() -> None:
    assert parse(TEXT) == PREFIX


def test_each_text_has_a_hash_of_its_own() -> None:
    texts = [TEXT, TEXT[:-1] + "d", "", "\ud800", "\udc80", "?", "é"]
    assert len({digest(text) for text in texts}) == len(texts)


def test_hashes_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda *pair: asked.append(pair) or real(*pair))
    one, other = digest("a"), digest("b")
    assert (matches(one, digest("a")), matches(one, other)) == (True, False)
    assert asked == [(one, one), (one, other)]


@pytest.mark.parametrize(
    ("written", "prefix"),
    [
        (PREFIX, PREFIX),
        (f"jt_{PREFIX}", PREFIX),
        (f"jt_{PREFIX}_", PREFIX),
        (TEXT, PREFIX),
        (TEXT[:-9], PREFIX),
        (f"{PREFIX}_x", PREFIX),
        (f"{PREFIX}x", None),
        (PREFIX[:-1], None),
        (PREFIX.upper(), None),
        (f"jt{PREFIX}", None),
        ("", None),
        ("\0", None),
        ("shop", None),
        ("0199a8d2-7b5f-7c1e-9a4b-0123456789ab", None),
    ],
)
def test_an_operator_may_write_any_beginning(written: str, prefix: str | None) -> None:
    assert prefix_in(written) == prefix


@pytest.mark.parametrize("before", ["", "Bearer ", "x", "jt", "JT_"])
def test_what_is_repeated_holds_no_secret(before: str) -> None:
    assert SECRET[:3] not in shown(before + TEXT)
    assert len(shown(before + TEXT)) == 16
    assert shown("shop") == "shop"


@pytest.mark.parametrize(
    ("wrong", "pointers"),
    [
        ({}, []),
        ({"name": "a"}, []),
        ({"name": "9"}, []),
        ({"name": "ann@example.org"}, []),
        ({"name": "x" * 100}, []),
        ({"name": "x" * 101}, ["/name"]),
        ({"name": ""}, ["/name"]),
        ({"name": "-a"}, ["/name"]),
        ({"name": "a b"}, ["/name"]),
        ({"name": "a\n"}, ["/name"]),
        ({"name": "a\0"}, ["/name"]),
        ({"name": "ä"}, ["/name"]),
        ({"name": "\ud800"}, ["/name"]),
        ({"scopes": []}, ["/scopes"]),
        ({"scopes": ["admin"]}, ["/scopes"]),
        ({"scopes": ["read", ""]}, ["/scopes"]),
        ({"scopes": ["read", "submit", "operate", "read"]}, []),
        ({"lives_for": timedelta(seconds=1)}, []),
        ({"lives_for": timedelta(days=3650)}, []),
        ({"lives_for": timedelta(0)}, ["/expires_in"]),
        ({"lives_for": timedelta(seconds=-1)}, ["/expires_in"]),
        ({"lives_for": timedelta(days=3650, microseconds=1)}, ["/expires_in"]),
        ({"expires_at": datetime.now(UTC)}, []),
        ({"expires_at": datetime.now(UTC), "lives_for": timedelta(days=1)}, ["/expires_at"]),
        ({"name": "", "scopes": [], "lives_for": timedelta(0)}, ["/name", "/scopes", "/expires_in"]),
    ],
)
def test_what_a_key_may_be(wrong: dict[str, object], pointers: list[str]) -> None:
    wanted = {"name": "shop", "scopes": ["read"], "expires_at": None, "lives_for": None, **wrong}
    assert [flaw.pointer for flaw in flaws_of(**wanted)] == pointers  # type: ignore[arg-type]
