"""URLs of receivers as somebody may write them, each with what the refusal says, or None where it is taken."""

from typing import Final

_A_URL: Final = "write a URL such as"
_ASCII: Final = "write it in visible ASCII"
_USER: Final = "it names a user or a password"
_NAME: Final = "is no name of a host"
_WHOLE: Final = "write a name or an address, an IPv6 one in brackets and without a zone"

PUBLIC: Final = "[2606:2800:21f:cb07::1]"

URLS: Final = {
    # the form
    "https:///x": _A_URL, "https:/x": _A_URL, "http:/x": _A_URL, "https:x": _A_URL, "https:": _A_URL,
    "//example.com/": _A_URL, "HTTPS://EXAMPLE.COM/A": None, "https://example.com?a=b": None,
    "https://example.com/%00": None, "https://example.com/;a?b?c": None,
    # ports
    "https://example.com:0/": "port 0", "https://example.com:65536/": "Port out of range",
    "https://example.com:65535/": "port 65535 is for", "https://example.com:/": None,
    "https://example.com:00443/": None, "https://example.com:+443/": _WHOLE, "https://example.com:443:443/": _WHOLE,
    # characters
    "https:// example.com/": _ASCII, "https://example.com /": _ASCII, "https://example.com\\x/": _ASCII,
    "https:\\\\example.com/": _ASCII, "https://example.com/\x01": _ASCII, "https://example\x7f.com/": _ASCII,
    "https://example.com/\t": _ASCII, "https://bücher.example/": _ASCII, "https://ⓔxample.com/": _ASCII,
    # who asks
    "https://user@example.com/": _USER, "https://user:pw@example.com/": _USER, "https://:@example.com/": _USER,
    "https://example.com%2f@x.example/": _USER,
    # names
    "https://xn--bcher-kva.example/": None, "https://xn--a.example/": None, "https://xn--.example/": _NAME,
    "https://my_host.example/": None, "https://a.my_tld/": _NAME, "https://example.com./": _NAME,
    "https://.example.com/": _NAME, "https://a..example/": _NAME, "https://ex%61mple.com/": _NAME,
    "https://example.com%00/": _NAME, "https://-a.example/": _NAME, "https://a-.example/": _NAME,
    "https://*.example/": _NAME, "https://a,b.example/": _NAME, f"https://{'a' * 63}.example/": None,
    f"https://{'a' * 64}.example/": _NAME, f"https://{'a.' * 126}example/": _NAME, "https://intranet/": None,
    # addresses
    f"https://{PUBLIC}/": None, f"https://{PUBLIC}:/": None, f"https://a{PUBLIC}/": _WHOLE,
    f"https://{PUBLIC}a/": _WHOLE, "https://[2606:2800:21f:cb07::1%25eth0]/": _WHOLE,
    "https://[2606:2800:21f:cb07::1%eth0]/": _WHOLE, "https://[fe80::1%25eth0]/": _WHOLE, "https://[v1.a]/": _WHOLE,
    "https://[vF.a:b]:443/": _WHOLE, "https://[93.184.215.14]/": "", "https://[]/": "", "https://[::1/": "",
    "https://]/": "", "https://1.2.3/": _NAME, "https://1.2.3.4.5/": _NAME,
}  # fmt: skip
"""Where the words are Python's own, and differ between its releases, they are empty."""
