"""A client in a network namespace of its own, behind a veth pair, as if it were on another machine. Needs root."""

import contextlib
import os
import subprocess
from collections.abc import Iterator

HOST, CLIENT = "10.203.77.1", "10.203.77.2"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def veth() -> Iterator[tuple[str, list[str]]]:
    """The address that servers listen on, and what a command of the client begins with."""
    space = f"wheelport-{os.getpid()}"
    here, there = f"wp{os.getpid()}a", f"wp{os.getpid()}b"
    ip("netns", "add", space)
    try:
        # The pair goes with the namespace.
        ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", space)
        ip("address", "add", f"{HOST}/30", "dev", here)
        ip("link", "set", here, "up")
        for words in (["address", "add", f"{CLIENT}/30", "dev", there], ["link", "set", there, "up"], ["link", "set", "lo", "up"]):
            ip("-n", space, *words)
        yield HOST, ["ip", "netns", "exec", space]
    finally:
        ip("netns", "delete", space)
