"""Assignment of devices to workers, in any number of processes of a machine."""

from __future__ import annotations

import errno
import itertools
import socket
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["DeviceClaim", "claim_device"]

_lock = threading.Lock()
_used: Counter[tuple[str, str]] = Counter()


class DeviceClaim(NamedTuple):
    """A device that is counted as used until the claim is released.

    Attributes
    ----------
    device
        The device.
    session
        The run.
    name
        A socket whose name stands for the claim; the system releases it when the process ends.
    """

    device: str
    session: str
    name: socket.socket | None

    def release(self) -> None:
        """Count the device as free."""
        if self.name:
            self.name.close()
        else:
            with _lock:
                _used[self.session, self.device] -= 1


def claim_device(devices: Sequence[str], session: str) -> DeviceClaim:
    """Claim the device that has the fewest workers of a run on this machine; with equal numbers, the first.

    Parameters
    ----------
    devices
        The devices.
    session
        Identifies the run.

    Notes
    -----
    On Linux, processes see each other's claims, which are names of abstract sockets.  Elsewhere each process counts its
    own claims only.

    Examples
    --------
    >>> claims = [claim_device(["cuda:0", "cuda:1"], "a run") for _ in range(3)]
    >>> [claim.device for claim in claims]
    ['cuda:0', 'cuda:1', 'cuda:0']
    >>> for claim in claims:
    ...     claim.release()
    """
    if sys.platform != "linux" or len(devices) == 1:
        with _lock:
            device = min(devices, key=lambda each: _used[session, each])
            _used[session, device] += 1
        return DeviceClaim(device, session, None)
    for number in itertools.count():
        for device in devices:
            name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                name.bind(f"\0deepnets1m {session} {device} {number}")
            except OSError as error:
                name.close()
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return DeviceClaim(device, session, name)
    raise AssertionError
