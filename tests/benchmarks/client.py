"""A closed loop of HTTP/1.1 requests on loopback: `python -m benchmarks.client URL METHOD BODY CONNECTIONS SECONDS`.

It shares the CPUs with what it measures, so it is nothing but sockets and an epoll. It says a first line as soon as the
window is over, so that what is stored by then can be counted, and the figures in a second.
"""

import json
import select
import socket
import statistics
import sys
import time
from urllib.parse import urlsplit


def main(url: str, method: str, body: str, connections: int, seconds: float) -> None:
    at = urlsplit(url)
    path = at.path + (f"?{at.query}" if at.query else "")
    head = f"{method} {path} HTTP/1.1\r\nHost: {at.netloc}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode()
    poll, sockets, parts, sent = select.epoll(), {}, {}, {}
    for _ in range(connections):
        connected = socket.create_connection((at.hostname or "", at.port or 80))
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets[connected.fileno()], parts[connected.fileno()] = connected, b""
        poll.register(connected.fileno(), select.EPOLLIN)
    took, refused, busy = [], 0, time.process_time()
    began = now = time.perf_counter()
    for number, connected in sockets.items():
        sent[number] = now
        connected.sendall(request)
    while now < began + seconds or len(took) < 2:
        for number, _ in poll.poll(0.1):
            data = parts[number] + sockets[number].recv(1 << 20)
            if not data:
                sys.exit(f"{url} closed a connection")
            if not is_whole(data):
                parts[number] = data
                continue
            now = time.perf_counter()
            took.append(now - sent[number])
            refused += data[9:10] != b"2"
            parts[number], sent[number] = b"", now
            sockets[number].sendall(request)
        now = time.perf_counter()
    print("ended", flush=True)
    cuts = statistics.quantiles(took, n=100)
    figures = {
        "seconds": now - began, "count": len(took) - refused, "refused": refused, "p50": cuts[49] * 1000,
        "p99": cuts[98] * 1000, "client": (time.process_time() - busy) / len(took) * 1e6,
    }  # fmt: skip
    print(json.dumps(figures), flush=True)
    deadline = time.monotonic() + 10  # what is under way is answered: a connection that is cut is another measure
    while sockets and time.monotonic() < deadline:
        for number, _ in poll.poll(0.1):
            parts[number] += sockets[number].recv(1 << 20)
            if is_whole(parts[number]):
                poll.unregister(number)
                sockets.pop(number).close()


def is_whole(data: bytes) -> bool:
    """Whether a response is complete, which has to say its length."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    at = data.find(b"ontent-", 0, end)
    while data[at + 7 : at + 14].lower() != b"length:":
        at = data.index(b"ontent-", at + 1, end)
    return len(data) >= end + 4 + int(data[at + 14 : data.index(b"\r\n", at)])


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]), float(sys.argv[5]))
