"""Parameter servers: the program runs on every host, beside servers that hold the shared parameters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from sagemaker_framework.errors import ConfigurationError, TrainerError
from sagemaker_framework.strategies.base import DistributionStrategy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Any

    from sagemaker_framework.entry_point import EntryPoint
    from sagemaker_framework.strategies.base import Launch


class ParameterServerStrategy(DistributionStrategy):
    """Runs the program once on each host, and beside it the servers of a framework.

    Subclasses provide what differs from framework to framework. This class does the rest: it chooses ports, and the
    hosts agree on them. Servers start on all hosts before the programs do. A server that dies fails the job on all
    hosts, with its name and last output. When the programs have ended, servers are stopped on all hosts, the last one
    first.

    Must be overridden:

    - `start_servers(launch)`: starts the servers of this host
    - `role_env(role)`: the variables that tell a process its role and where the others are

    May be overridden, in the order they are called:

    - `ports()`: the ports at which processes of this host listen
    - `fixed_port(name)`: the port that the job insists on
    - `role()`: the role of the program on this host
    - `completes_job()`: True if the job lasts until the program has ended on this host

    For subclasses: `is_leader`, `hosts()`, `leader_address`, `own_address`, `port(name, host)`, `address(name, host)`.
    """

    @abstractmethod
    def start_servers(self, launch: Launch) -> None:
        """Start the servers of this host.

        Called once, by the Trainer, when the code and its requirements are in place and all hosts have agreed on
        ports. `launch("server", argv, env_vars=self.role_env("server"))` is the only way to start one; the supervisor
        watches and stops it. A server that ends by itself when the programs do needs `may_end=True`.
        """

    @abstractmethod
    def role_env(self, role: str) -> Mapping[str, str]:
        """Return the variables of a process of this host, in addition to those of all programs.

        Called by `env_vars` for the program, and by `start_servers` for servers.

        Args:
            role: the role of the process: `worker` for the program, or what `start_servers` says.
        """

    def role(self) -> str:
        """Return the role of the program on this host.  By default `worker`."""
        return "worker"

    def ports(self) -> Mapping[str, int]:
        """Return the ports that processes of this host need, by names of your choice: a preferred port, or 0 for any.

        Called once, by the Trainer, when the code and its requirements are in place. None by default.
        """
        return {}

    def fixed_port(self, name: str) -> int | str | None:
        """Return the port that the job insists on; None if any other will do.

        Called for each of `ports()`. By default the hyperparameter `sagemaker_<name>_port`.

        Args:
            name: the name of the port.
        """
        given: int | str | None = self.env.additional_framework_parameters.get(f"sagemaker_{name}_port")
        return given

    # -- for subclasses, once the hosts have agreed ------------------------------------------

    @property
    def leader_address(self) -> str:
        """The leader's IP address."""
        return str(self.plan_result["leader"])

    @property
    def own_address(self) -> str:
        """The IP address at which the other hosts reach this one."""
        from sagemaker_framework.strategies._network import own_address

        return own_address(self.env)

    def port(self, name: str, host: str | None = None) -> int:
        """Return the agreed number of one of a host's `ports()`.

        Args:
            name: the name of the port.
            host: the name of the host; the leader if None.

        Raises:
            TrainerError: the host has no port of that name.
        """
        host = host or self.hosts()[0]
        known = self.plan_result["ports"].get(host, {})
        if name not in known:
            raise TrainerError(f"{host} has no port {name!r}: {type(self).__name__}.ports names {[*known]} there")
        return int(known[name])

    def address(self, name: str, host: str | None = None) -> str:
        """Return the address, `host:port`, at which processes of all hosts reach one of a host's `ports()`.

        Args:
            name: the name of the port.
            host: the name of the host; the leader if None.

        Raises:
            TrainerError: the host has no port of that name.
        """
        host = host or self.hosts()[0]
        return f"{host}:{self.port(name, host)}"

    # -- for the Trainer ---------------------------------------------------------------------

    def advertise(self) -> Mapping[str, Any]:
        wanted = self.ports()
        if not isinstance(wanted, Mapping) or not all(_is_port(port) for port in wanted.values()):
            raise TrainerError(
                f"{type(self).__name__}.ports returned {wanted!r}, not a mapping of names to numbers from 0 to 65535"
            )
        ports: dict[str, int] = {}
        for name in wanted:
            given = self.fixed_port(name)
            if given is not None:
                ports[name] = self._fixed(name, given)
        if len(set(ports.values())) < len(ports):
            raise ConfigurationError(f"two processes of a host cannot listen at the same port: {ports}")
        for name in wanted:
            if name not in ports:
                ports[name] = _other_port(wanted[name], ports.values())
        return {"ports": ports, "address": self.own_address} if self.is_leader else {"ports": ports}

    def _fixed(self, name: str, given: int | str) -> int:
        from sagemaker_framework.strategies._network import is_free

        port = int(given) if str(given).isdecimal() else 0
        if not 0 < port < 65536:
            raise ConfigurationError(f"the port of {name} is {given!r}, not a number from 1 to 65535")
        if not is_free(port):
            raise ConfigurationError(
                f"port {port}, which the job sets for {name}, is taken on this host: leave it out, or set another"
            )
        return port

    def plan(self, adverts: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        ports = {host: advert["ports"] for host, advert in adverts.items() if advert["ports"]}
        return {"leader": adverts[self.hosts()[0]]["address"], "ports": ports}

    def command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str] | None:
        return entry_point.command(args)

    def env_vars(self) -> Mapping[str, str]:
        return self.role_env(self.role())


def _is_port(port: object) -> bool:
    return isinstance(port, int) and 0 <= port < 65536


def _other_port(preferred: int, taken: Collection[int]) -> int:
    """Return a port that is free, and is not one of those that will be taken in a moment."""
    from sagemaker_framework.strategies._network import free_port

    port = free_port(0 if preferred in taken else preferred)
    while port in taken:
        port = free_port(0)
    return port
