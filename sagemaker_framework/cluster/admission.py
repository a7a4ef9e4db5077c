"""Who may take part in a job's session: both sides prove that they have the job's key.

Pure: addresses and random numbers are arguments.  A host says who it is, the leader answers with a random number once
the host's name leads to where it comes from, and each proves with both sides' numbers that it has the key:

    host    {"hello": 1, "host": "algo-2", "nonce": ...}
    leader  {"nonce": ...}
    host    {"proof": ...}
    leader  {"proof": ...}      both sign what they say from here on
"""

from __future__ import annotations

from sagemaker_framework.cluster.wire import proof, same

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any


class Refused(Exception):
    """The other side cannot be one of the job's hosts; its message says why."""


class Stranger:
    """What somebody who has connected to the leader has said of itself.

    Args:
        address: where the connection comes from.
        nonce: a random number of the leader.

    Attributes:
        host: the name that it gives itself; empty before it does.
        nonces: its random number, and the leader's.
    """

    def __init__(self, address: str, nonce: str) -> None:
        self.address = address
        self.host = ""
        self.nonces = ("", nonce)


class Admission:
    """The leader's rules for who is a host of the job.

    Args:
        hosts: the names of all hosts but the leader.
        key: the job's key.
        check_names: whether a host must come from an address that its name leads to.
    """

    def __init__(self, hosts: Collection[str], key: bytes, check_names: bool) -> None:
        self._hosts = frozenset(hosts)
        self._key = key
        self._check_names = check_names
        self._addresses: dict[str, frozenset[str]] = {}

    def resolve(self, host: str, addresses: frozenset[str]) -> None:
        """Take note of where a name leads."""
        self._addresses[host] = addresses

    def greet(self, stranger: Stranger, message: Mapping[str, Any], connected: Collection[str]) -> None:
        """Take in who a stranger says that it is.

        Args:
            stranger: who.
            message: its first message.
            connected: the hosts that are connected.

        Raises:
            Refused: the job has no such host, or it is connected.
        """
        stranger.host = str(message.get("host"))
        stranger.nonces = (str(message.get("nonce")), stranger.nonces[1])
        if stranger.host not in self._hosts:
            raise Refused(f"{stranger.host!r} is no host of this job")
        if stranger.host in connected:
            raise Refused(f"{stranger.host} is connected already")

    def challenge(self, stranger: Stranger) -> dict[str, Any] | None:
        """Return what to answer to a stranger that has been greeted; None while its name leads nowhere yet.

        Raises:
            Refused: its name leads elsewhere.
        """
        if self._check_names:
            known = self._addresses.get(stranger.host)
            if known is None:
                return None
            if stranger.address not in known:
                leads = ", ".join(sorted(known))
                raise Refused(f"the name {stranger.host} leads to {leads}, not to {stranger.address}")
        return {"nonce": stranger.nonces[1]}

    def check(
        self, stranger: Stranger, message: Mapping[str, Any], connected: Collection[str]
    ) -> tuple[dict[str, Any], bytes]:
        """Return what to answer to a stranger's proof, and the key of its connection.

        Raises:
            Refused: it does not have the job's key, or another has come first.
        """
        if not stranger.host or not same(message["proof"], proof(self._key, "member", stranger.host, *stranger.nonces)):
            raise Refused("it does not have the key of this job: its name, hosts or hyperparameters are others")
        if stranger.host in connected:
            raise Refused(f"{stranger.host} is connected already")
        answer = {"proof": proof(self._key, "leader", stranger.host, *stranger.nonces)}
        return answer, bytes.fromhex(proof(self._key, "session", stranger.host, *stranger.nonces))


class Introduction:
    """A follower's side of the same.

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
        """Return what to answer to the leader; once it has proved itself, the key of the connection instead.

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
            raise Refused("who answers there does not have the key of this job")
        return bytes.fromhex(proof(self._key, "session", self._host, *nonces))
