"""Resolves the names of hosts."""

from __future__ import annotations

import socket
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_AT_ONCE = 32
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 2.0  # seconds between rounds


class Resolver:
    """Resolves names, many at once, again and again until each has an address.

    A container's name may resolve only some time after the container has started.

    Args:
        hosts: the names.
        found: called once for each name with its addresses, from other threads.
    """

    def __init__(self, hosts: Sequence[str], found: Callable[[str, frozenset[str]], None]) -> None:
        self._hosts = hosts
        self._found = found
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="resolver", daemon=True).start()

    def close(self) -> None:
        """Stop resolving."""
        self._closed.set()

    def _run(self) -> None:
        left, wait = list(self._hosts), _FIRST_WAIT
        while left and not self._closed.is_set():
            left = self._round(left)
            self._closed.wait(wait if left else 0)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _round(self, hosts: list[str]) -> list[str]:
        """Resolve each name once; return those that do not resolve yet."""
        todo, missing = list(hosts), []

        def work() -> None:
            while not self._closed.is_set():
                try:
                    host = todo.pop()
                except IndexError:
                    return
                addresses = lookup(host)
                if addresses:
                    self._found(host, addresses)
                else:
                    missing.append(host)

        threads = [threading.Thread(target=work, name="resolver", daemon=True) for _ in hosts[:_AT_ONCE]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return missing


def lookup(host: str) -> frozenset[str]:
    """Return the addresses that a name resolves to now; none if it does not."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return frozenset()
    return frozenset(str(address[0]).partition("%")[0] for *_, address in found)
