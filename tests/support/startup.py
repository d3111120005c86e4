"""How a connection to PostgreSQL begins (chapter "Frontend/Backend Protocol"), and how one is refused just there."""

import asyncio
import struct
from typing import Final

_NO_TLS: Final = 80877103

REFUSALS: Final = ("28P01", "28000", "3D000", "42501", "42704", "53300", "55000", "57P03", "XX000")
"""What a server or a pooler says to whom it does not let in: a password that was just rotated, a role or a database
that is not there, no right, no room, a start that is under way, and whatever a hosted pooler makes of its limit.
"""


async def begun(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The first message, which has no type; TLS is declined."""
    while True:
        length = await reader.readexactly(4)
        body = await reader.readexactly(struct.unpack("!I", length)[0] - 4)
        if struct.unpack_from("!I", body)[0] != _NO_TLS:
            return length + body
        writer.write(b"N")


def refusal(state: str, words: str = "refused by the test") -> bytes:
    """The ErrorResponse that ends a connection before it was one."""
    fields = "".join(f"{code}{text}\0" for code, text in (("S", "FATAL"), ("V", "FATAL"), ("C", state), ("M", words)))
    body = fields.encode() + b"\0"
    return b"E" + struct.pack("!I", 4 + len(body)) + body
