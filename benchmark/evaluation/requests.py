"""Requests of the supervisor, as a process of the process server reads them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

__all__ = ["receive_requests"]


def receive_requests(channel: socket.socket) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """Yield requests, lines of JSON, with the file descriptors that came with each, until the supervisor is gone.

    The next request is sent only after the answer to the one before.
    """
    buffer, descriptors = b"", []
    while True:
        received, new, _, _ = socket.recv_fds(channel, 1 << 16, 1)
        if not received:
            return
        buffer += received
        descriptors += new
        if buffer.endswith(b"\n"):
            yield json.loads(buffer), descriptors
            buffer, descriptors = b"", []
