"""Finds the interfaces, addresses and ports by which processes on several hosts reach each other."""

from __future__ import annotations

import os

from sagemaker_framework.errors import FrameworkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sagemaker_framework.config.environment import TrainingEnv

_AMAZON = 0x1D0F  # PCI vendor ID
_FIRST_EFA = 0xEFA0  # PCI device ID of the first kind of adapter, which has no RDMA


def interface_variables(env: TrainingEnv, environ: Mapping[str, str] = os.environ, root: str = "/") -> dict[str, str]:
    """Return variables that make Gloo and NCCL use the job's network interface; otherwise they choose one themselves.

    Args:
        env: the job's environment.
        environ: variables that are set already, which keep their values.
        root: the folder that /sys is in; if the interface is not in it, no variables are returned.
    """
    interface = env.network_interface_name
    if not os.path.exists(os.path.join(root, "sys/class/net", interface)):
        return {}
    return {name: interface for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if name not in environ}


def efa_variables(environ: Mapping[str, str] = os.environ, root: str = "/") -> dict[str, str]:
    """Return variables for NCCL and libfabric about this container's Elastic Fabric Adapters; none if it has none.

    Args:
        environ: variables that are set already, which keep their values.
        root: the folder that /sys and /dev are in.
    """
    models = _efa_models(root)
    if not models:
        return {}
    variables = {
        "FI_PROVIDER": "efa",
        "NCCL_PROTO": "simple",  # The adapter delivers out of order; other protocols cannot handle that.
        "RDMAV_FORK_SAFE": "1",
    }
    if min(models) > _FIRST_EFA:
        variables["FI_EFA_USE_DEVICE_RDMA"] = "1"
    return {name: value for name, value in variables.items() if name not in environ}


def _efa_models(root: str) -> list[int]:
    """Return the PCI device IDs of the adapters that this container may use: 0xefa0 for the first kind, and so on."""
    if not any(name.startswith("uverbs") for name in _names(os.path.join(root, "dev/infiniband"))):
        return []  # The kernel shows all containers the machine's adapters, even those that may not use them.
    adapters = os.path.join(root, "sys/class/infiniband")
    models = []
    for name in _names(adapters):
        try:
            vendor, model = (_hex(os.path.join(adapters, name, "device", what)) for what in ("vendor", "device"))
        except (OSError, ValueError):
            continue
        if vendor == _AMAZON and model >= _FIRST_EFA:
            models.append(model)
    return models


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _hex(file: str) -> int:
    with open(file, encoding="ascii") as opened:
        return int(opened.read(), 16)


def own_address(env: TrainingEnv) -> str:
    """Return the IPv4 address at which the job's other hosts reach this one.

    It is the address of the job's network interface; without such an interface, the one that this host's name resolves
    to.

    Args:
        env: the job's environment.

    Raises:
        FrameworkError: there is no such address.
    """
    import socket

    import psutil

    for address in psutil.net_if_addrs().get(env.network_interface_name, []):
        if address.family == socket.AF_INET:
            return str(address.address)
    host = env.current_host
    try:
        return socket.gethostbyname(host)
    except OSError as error:
        if len(env.hosts) == 1:
            return "127.0.0.1"
        raise FrameworkError(
            f"{host} has no network interface {env.network_interface_name!r}, and its own name "
            f"does not resolve: {error.strerror}"
        ) from error


def await_listener(port: int, seconds: float) -> bool:
    """Wait until a process listens at a port of this host, without connecting to it.

    Args:
        port: the port.
        seconds: the longest time to wait.

    Returns:
        False if none listened in time.
    """
    import time

    deadline = time.monotonic() + seconds
    while not _is_listened_at(port):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True


def _is_listened_at(port: int) -> bool:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                sockets = [line.split() for line in file]
        except OSError:
            continue
        if any(fields[3] == "0A" and fields[1].endswith(f":{port:04X}") for fields in sockets[1:]):  # 0A is LISTEN.
            return True
    return False


def is_free(port: int) -> bool:
    """Tell whether a program on this host could listen at `port`."""
    return free_port(port) == port


def free_port(preferred: int) -> int:
    """Return a port that is free on this host: `preferred` if it is, else one that the system chooses.

    Raises:
        FrameworkError: no port is free.
    """
    import socket

    for port in (preferred, 0):
        with socket.socket() as trial:
            # The later listener does the same: a port that was in use a moment ago counts as free.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("", port))
                trial.listen()
            except OSError as error:
                problem = error
                continue
            return int(trial.getsockname()[1])
    raise FrameworkError(f"no port is free on this host: {problem.strerror}")
