"""Decides which connections come from the job's hosts: both sides prove that they have the job's key.

Pure: addresses and random numbers are arguments. A host says its name. If that name resolves to the address of the
connection, the leader answers with a random number. Then each side proves, with both random numbers, that it has the
key:

    host    {"hello": 1, "host": "algo-2", "nonce": ...}
    leader  {"nonce": ...}
    host    {"proof": ...}
    leader  {"proof": ...}      from here on, both sign their messages
"""

from __future__ import annotations

from sagemaker_framework.cluster.wire import proof, same

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any


class Refused(Exception):
    """The other side cannot be one of the job's hosts.  The message says why."""


class Stranger:
    """A connection to the leader that has not proved who it is.

    Args:
        address: the IP address that it comes from.
        nonce: a random number of the leader's.

    Attributes:
        host: the name that it gives itself; empty before it does.
        nonces: its random number, and the leader's.
    """

    def __init__(self, address: str, nonce: str) -> None:
        self.address = address
        self.host = ""
        self.nonces = ("", nonce)


class Admission:
    """The leader's rules for admitting hosts.

    Args:
        hosts: the names of all hosts but the leader.
        key: the job's key.
        check_names: True if a host's name must resolve to the address that the host connects from.
    """

    def __init__(self, hosts: Collection[str], key: bytes, check_names: bool) -> None:
        self._hosts = frozenset(hosts)
        self._key = key
        self._check_names = check_names
        self._addresses: dict[str, frozenset[str]] = {}

    def resolve(self, host: str, addresses: frozenset[str]) -> None:
        """Note the addresses that a host's name resolves to."""
        self._addresses[host] = addresses

    def greet(self, stranger: Stranger, message: Mapping[str, Any], connected: Collection[str]) -> None:
        """Read a stranger's first message.

        Args:
            stranger: the connection.
            message: its first message.
            connected: the names of the hosts that are connected.

        Raises:
            Refused: the job has no such host, or the host is connected already.
        """
        stranger.host = str(message.get("host"))
        stranger.nonces = (str(message.get("nonce")), stranger.nonces[1])
        if stranger.host not in self._hosts:
            raise Refused(f"{stranger.host!r} is not a host of this job")
        if stranger.host in connected:
            raise Refused(f"{stranger.host} is connected already")

    def challenge(self, stranger: Stranger) -> dict[str, Any] | None:
        """Return the answer to a stranger that was greeted; None while its name does not resolve yet.

        Raises:
            Refused: the name resolves to other addresses.
        """
        if self._check_names:
            known = self._addresses.get(stranger.host)
            if known is None:
                return None
            if stranger.address not in known:
                leads = ", ".join(sorted(known))
                raise Refused(f"the name {stranger.host} resolves to {leads}, not to {stranger.address}")
        return {"nonce": stranger.nonces[1]}

    def check(
        self, stranger: Stranger, message: Mapping[str, Any], connected: Collection[str]
    ) -> tuple[dict[str, Any], bytes]:
        """Return the answer to a stranger's proof, and the key of its connection.

        Raises:
            Refused: the stranger does not have the job's key, or the host has connected otherwise.
        """
        if not stranger.host or not same(message["proof"], proof(self._key, "member", stranger.host, *stranger.nonces)):
            raise Refused("it does not have the key of this job: its name, hosts or hyperparameters differ")
        if stranger.host in connected:
            raise Refused(f"{stranger.host} is connected already")
        answer = {"proof": proof(self._key, "leader", stranger.host, *stranger.nonces)}
        return answer, bytes.fromhex(proof(self._key, "session", stranger.host, *stranger.nonces))


class Introduction:
    """A follower's side of the admission.

    Args:
        host: this host's name.
        key: the job's key.
        nonce: a random number.
    """

    def __init__(self, host: str, key: bytes, nonce: str) -> None:
        self._host = host
        self._key = key
        self._nonce = nonce
        self._leaders_nonce = ""

    def hello(self) -> dict[str, Any]:
        """Return the first message."""
        return {"hello": 1, "host": self._host, "nonce": self._nonce}

    def answer(self, message: Mapping[str, Any]) -> dict[str, Any] | bytes:
        """Return the answer to the leader's message; after the leader's proof, the key of the connection.

        Raises:
            Refused: the leader refuses this host, or does not have the job's key.
        """
        if "refused" in message:
            raise Refused(f"it refused this host: {message['refused']}")
        if "proof" not in message:
            self._leaders_nonce = str(message.get("nonce"))
            return {"proof": proof(self._key, "member", self._host, self._nonce, self._leaders_nonce)}
        nonces = self._nonce, self._leaders_nonce
        if not same(message["proof"], proof(self._key, "leader", self._host, *nonces)):
            raise Refused("the other side does not have the key of this job")
        return bytes.fromhex(proof(self._key, "session", self._host, *nonces))
