"""Health checks: a sign of life counts only when the application itself answers bytes."""

from __future__ import annotations

import asyncio

from sappers.sidecar.settings import HealthCheck


async def check(rule: HealthCheck, host: str = "127.0.0.1") -> str:
    """Why the application is not healthy, or empty when it is.

    A new connection each time: user-mode networks accept early and then stall.
    """
    if rule.kind == "process":
        return ""
    try:
        async with asyncio.timeout(rule.timeout_seconds):
            return await _probe(rule, host)
    except TimeoutError:
        return f"port {rule.port} gives no answer within {rule.timeout_seconds:g} s"
    except OSError as error:
        return f"port {rule.port} does not answer: {error.strerror or error}"
    except ValueError:  # a line without an end, or a status of thousands of digits
        return f"port {rule.port} answers no HTTP"


async def _probe(rule: HealthCheck, host: str) -> str:
    reader, writer = await asyncio.open_connection(host, rule.port)
    try:
        if rule.kind == "tcp":
            return ""
        request = f"GET {rule.path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: sappers-sidecar\r\n\r\n"
        writer.write(request.encode())
        return _judge(rule, await reader.readline())
    finally:
        writer.close()


def _judge(rule: HealthCheck, status_line: bytes) -> str:
    words = status_line.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return f"port {rule.port} answers no HTTP"
    status = int(words[1])
    return "" if 200 <= status < 400 else f"{rule.path} answers {status}"
