"""The hardware of this host: CPUs, memory, GPUs, Neuron cores.

Asks the kernel where it knows, and a process (`nvidia-smi`, with a deadline) only as a last
resort. `root` is the folder that /proc, /sys and /dev are in.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_SMI_DEADLINE = 10.0  # seconds; with eight GPUs, too, a healthy nvidia-smi answers within two
_REAPING = 1.0  # seconds for a killed nvidia-smi to end; one that hangs in the driver never does


def count_cpus(root: str = "/") -> int:
    """Count the CPUs that this container may use at once: the affinity mask, limited by the cgroup's quota."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # Not on macOS.
        cpus = os.cpu_count() or 1
    quotas = [-(-quota // period) for quota, period in _cpu_quotas(root) if quota > 0 and period > 0]
    return max(1, min([cpus, *quotas]))


def _cpu_quotas(root: str) -> Iterator[tuple[int, int]]:
    for folder in _cgroup_folders("cpu", root):
        quota, _, period = (_read(f"{folder}/cpu.max") or "").partition(" ")  # v2: "150000 100000" or "max 100000"
        if not quota:
            quota, period = _read(f"{folder}/cpu.cfs_quota_us") or "", _read(f"{folder}/cpu.cfs_period_us") or ""
        if _is_number(quota) and _is_number(period):
            yield int(quota), int(period)


def count_memory(root: str = "/") -> int:
    """Return the memory that this container may use, in bytes: the machine's, limited by the cgroup."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        import psutil

        total = int(psutil.virtual_memory().total)
    limits = []
    for folder in _cgroup_folders("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _read(f"{folder}/{name}") or ""
            if _is_number(limit):
                limits.append(int(limit))
    return min([total, *limits])


def count_gpus(root: str = "/", deadline: float = _SMI_DEADLINE) -> int:
    """Count the NVIDIA GPUs of this container.

    Counts device files, without starting a process. If there are none but there is an
    `nvidia-smi` (as on Windows' Linux), asks that, through GPUtil.

    Args:
        root: the folder that /proc and /dev are in.
        deadline: seconds to wait for `nvidia-smi`.
    """
    gpus = len(_devices("nvidia", root))
    if gpus or not is_on_path("nvidia-smi") or _has_nvidia_driver(root):
        return gpus
    return _ask_nvidia_smi(deadline)


def _devices(kind: str, root: str) -> list[str]:
    """Return the device files whose name is `kind` and a number."""
    try:
        names = os.listdir(os.path.join(root, "dev"))
    except OSError:
        return []
    return [name for name in names if name.startswith(kind) and _is_number(name[len(kind) :])]


def _has_nvidia_driver(root: str) -> bool:
    # The driver is loaded and gave this container no device: so it has none.
    return os.path.exists(os.path.join(root, "proc/driver/nvidia/version"))


def _ask_nvidia_smi(deadline: float) -> int:
    import threading

    from sagemaker_framework import log

    found: list[int] = []

    def ask() -> None:
        try:
            found.append(len(_gputil().getGPUs()))
        except Exception as error:  # GPUtil fails in many ways on a broken nvidia-smi.
            log.warning(f"nvidia-smi gave no list of GPUs ({type(error).__name__}: {error}): counting none")
            found.append(0)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        asking.join(deadline)
    finally:  # Runs even if the job is stopped meanwhile.
        hangs = asking.is_alive()
        if hangs:
            _kill_children_named("nvidia-smi")
            asking.join(_REAPING)
    if hangs:
        log.warning(f"nvidia-smi is there but did not answer within {deadline:g} s: counting no GPUs")
        return 0
    return found[0]


def _gputil() -> Any:
    """Import GPUtil, on Python 3.12 and later too, where it lacks the `distutils` that it imports."""
    import shutil
    import sys
    import types

    try:
        import GPUtil
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("distutils"):
            raise
        spawn = types.ModuleType("distutils.spawn")
        spawn.find_executable = shutil.which  # type: ignore[attr-defined]
        distutils = types.ModuleType("distutils")
        distutils.spawn = spawn  # type: ignore[attr-defined]
        stand_ins = {"distutils": distutils, "distutils.spawn": spawn}
        sys.modules.update(stand_ins)
        try:
            import GPUtil
        finally:
            for name in stand_ins:
                del sys.modules[name]
    return GPUtil


def _kill_children_named(name: str) -> None:
    """Kill the children with this name, and their descendants."""
    import psutil

    for child in psutil.Process().children():
        try:
            if child.name() == name:
                for process in (child, *child.children(recursive=True)):
                    process.kill()
        except psutil.Error:
            continue


def count_neuron_cores(root: str = "/") -> int:
    """Count the AWS Neuron cores of this container that a program sees, from the Neuron driver's files in sysfs.

    From Trainium2 on, a program sees two cores as one unless NEURON_LOGICAL_NC_CONFIG says otherwise.
    """
    cores = 0
    for name in _devices("neuron", root):
        folder = os.path.join(root, "sys/devices/virtual/neuron_device", name)
        count = _read(f"{folder}/core_count") or ""
        if _is_number(count):
            cores += int(count) // _cores_per_logical_core(_read(f"{folder}/info/architecture/device_name") or "")
    return cores


def _cores_per_logical_core(device: str) -> int:
    if device in ("", "Inferentia", "Inferentia2", "Trainium1"):
        return 1
    setting = os.environ.get("NEURON_LOGICAL_NC_CONFIG", "")
    return int(setting) if setting in ("1", "2") else 2


def is_on_path(program: str) -> bool:
    """Tell whether `program` can be run by its name."""
    folders = (os.environ.get("PATH") or os.defpath).split(os.pathsep)
    return any(os.access(os.path.join(folder, program), os.X_OK) for folder in folders if folder)


def oom_kills(root: str = "/") -> int:
    """Count the processes that the kernel has killed so far because this container was out of memory.

    Only the difference between two calls means something.
    """
    folder = next(_cgroup_folders("memory", root), "")
    for name in ("memory.events", "memory.oom_control"):  # cgroup v2, v1
        for line in (_read(f"{folder}/{name}") or "").splitlines():
            key, _, count = line.partition(" ")
            if key == "oom_kill" and _is_number(count):
                return int(count)
    return 0


def _cgroup_folders(controller: str, root: str) -> Iterator[str]:
    """Yield the folders of this process's cgroup and its parents, for one controller; cgroup v1 and v2."""
    mounted = os.path.join(root, "sys/fs/cgroup")
    for line in (_read(os.path.join(root, "proc/self/cgroup")) or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            top = mounted  # v2
        elif controller in controllers.split(","):
            top = f"{mounted}/{controllers}"
            top = top if os.path.isdir(top) else f"{mounted}/{controller}"
        else:
            continue
        # Without a cgroup namespace of its own, the container sees the host's path, which it cannot reach: use the top.
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(parts), -1, -1):
            folder = "/".join([top, *parts[:depth]])
            if os.path.isdir(folder):
                yield folder


def _read(file: str) -> str | None:
    try:
        with open(file, "rb") as opened:  # As bytes: loading the codec takes longer than reading.
            return str(opened.read(), "ascii").strip()
    except (OSError, ValueError):
        return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()
