"""How processes on several hosts find each other: interfaces and ports."""

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
    """The network interface of the job, for Gloo and NCCL, which would choose one themselves.

    Args:
        env: the job's environment.
        environ: variables that there are already, which stay as they are.
        root: the folder that /sys is in: where an interface is not there, none is named.
    """
    interface = env.network_interface_name
    if not os.path.exists(os.path.join(root, "sys/class/net", interface)):
        return {}
    return {name: interface for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if name not in environ}


def efa_variables(environ: Mapping[str, str] = os.environ, root: str = "/") -> dict[str, str]:
    """What NCCL and libfabric have to know of the Elastic Fabric Adapters of this container; nothing where it has none.

    Args:
        environ: variables that there are already, which stay as they are.
        root: the folder that /sys and /dev are in.
    """
    models = _efa_models(root)
    if not models:
        return {}
    variables = {
        "FI_PROVIDER": "efa",
        "NCCL_PROTO": "simple",  # The adapter delivers out of order, which the other protocols do not expect.
        "RDMAV_FORK_SAFE": "1",
    }
    if min(models) > _FIRST_EFA:
        variables["FI_EFA_USE_DEVICE_RDMA"] = "1"
    return {name: value for name, value in variables.items() if name not in environ}


def _efa_models(root: str) -> list[int]:
    """The PCI device IDs of the adapters that this container may use: 0xefa0 for the first kind, and so on."""
    if not any(name.startswith("uverbs") for name in _names(os.path.join(root, "dev/infiniband"))):
        return []  # The kernel shows the machine's adapters to all containers; not all have been given them.
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
    """The IPv4 address at which the job's other hosts find this one.

    That of the job's network interface; where there is none of that name, the one that this host's name leads to.

    Args:
        env: the job's environment.

    Raises:
        FrameworkError: there is none.
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
            f"leads nowhere: {error.strerror}"
        ) from error


def await_listener(port: int, seconds: float) -> bool:
    """Wait until somebody listens at a port of this host, without connecting.  Whether that is so within so long.

    Args:
        port: the port.
        seconds: how long to wait.
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
    """Whether a program on this host could listen at `port`."""
    return free_port(port) == port


def free_port(preferred: int) -> int:
    """A port that nobody listens at on this host: `preferred` if it is free, else one that the system chooses.

    Raises:
        FrameworkError: there is none.
    """
    import socket

    for port in (preferred, 0):
        with socket.socket() as trial:
            # As who listens there later does: one that was in use a moment ago is free.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("", port))
                trial.listen()
            except OSError as error:
                problem = error
                continue
            return int(trial.getsockname()[1])
    raise FrameworkError(f"no port is free on this host: {problem.strerror}")
