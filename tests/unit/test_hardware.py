"""What this host has: counted where the kernel tells, and never held up by a broken nvidia-smi."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import psutil
import pytest
from jobs import Job

from sagemaker_framework.config import hardware

#: More than any machine has.
ENDLESS = 1 << 62

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system knows no CPU affinity")


def cpus_here() -> int:
    """The CPUs that this process may run on."""
    return len(os.sched_getaffinity(0))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the /proc, /sys and /dev of a machine that has nothing; no `nvidia-smi` on PATH."""
    for folder in ("proc/self", "sys/fs/cgroup", "dev"):
        (tmp_path / "root" / folder).mkdir(parents=True)
    return tmp_path / "root"


def write(root: Path, files: dict[str, str]) -> str:
    """Put files into the machine's folder, which is returned as `hardware` takes it."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return str(root)


# -- CPUs --------------------------------------------------------------------------------------------------------


@needs_affinity
def test_cpus_are_those_of_the_affinity_mask() -> None:
    """A process that is bound to one CPU has one, however many the machine has."""
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from sagemaker_framework.config import hardware; print(hardware.count_cpus())"
    )

    assert "1\n" == subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout


@pytest.fixture
def half_a_cpu() -> Iterator[Path]:
    """A real control group that may use half a CPU."""
    top = Path("/sys/fs/cgroup")
    is_v2 = (top / "cgroup.controllers").exists()
    group = (top if is_v2 else top / "cpu") / f"sagemaker-framework-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no CPU control group can be made here: {error}")
    try:
        if is_v2 and not (group / "cpu.max").exists():
            pytest.skip("the CPU controller of this machine's control groups is switched off")
        if is_v2:
            (group / "cpu.max").write_text("50000 100000")
        else:
            (group / "cpu.cfs_quota_us").write_text("50000")
        yield group
    finally:
        group.rmdir()


def test_cpus_are_those_of_a_real_control_group(half_a_cpu: Path) -> None:
    """In a control group that may use half a CPU, there is one."""
    code = (
        f"import os; open('{half_a_cpu}/cgroup.procs', 'w').write(str(os.getpid()));"
        "from sagemaker_framework.config import hardware; print(hardware.count_cpus())"
    )

    assert "1\n" == subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout


@needs_affinity
@pytest.mark.parametrize(
    ("quota", "cpus"),
    [
        ("50000 100000", 1),
        ("100000 100000", 1),
        ("150000 100000", 2),
        ("200000 100000", 2),
        ("25000 50000", 1),
        ("1000 1000000", 1),
        (f"{ENDLESS} 100000", ENDLESS),
        ("max 100000", ENDLESS),
        ("max", ENDLESS),
        ("", ENDLESS),
        ("nonsense", ENDLESS),
        ("0 100000", ENDLESS),
        ("100000 0", ENDLESS),
    ],
)
def test_a_quota_cuts_the_cpus(root: Path, quota: str, cpus: int) -> None:
    """A quota is rounded up to whole CPUs, one at the least; none, or one that makes no sense, cuts nothing."""
    machine = write(root, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{quota}\n"})

    assert min(cpus, cpus_here()) == hardware.count_cpus(machine)


@needs_affinity
@pytest.mark.parametrize(
    ("membership", "folder"),
    [
        ("0::/", ""),
        ("0::/system/job", "/system/job"),
        ("0::/system/job", "/system"),
        ("0::/system/job", ""),
        ("0::/../../outside", ""),
        ("4:cpu:/", "/cpu"),
        ("4:cpu:/job", "/cpu/job"),
        ("4:cpu:/docker/1234", "/cpu"),
        ("4:cpu,cpuacct:/job", "/cpu,cpuacct/job"),
        ("4:cpu,cpuacct:/job", "/cpu/job"),
        ("9:name=systemd:/\n4:cpu,cpuacct:/job\n0::/", "/cpu/job"),
    ],
)
@pytest.mark.parametrize("files", [{"cpu.max": "1 1"}, {"cpu.cfs_quota_us": "1", "cpu.cfs_period_us": "1"}])
def test_where_the_quota_is(root: Path, membership: str, folder: str, files: dict[str, str]) -> None:
    """The quota counts that stands in the group of this process, or in one above it: control groups v2, v1 and mixed.

    Also where the folders are not called what the process's own record says, as in a container of Docker.
    """
    paths = {f"sys/fs/cgroup{folder}/{name}": text for name, text in files.items()}

    assert 1 == hardware.count_cpus(write(root, {"proc/self/cgroup": f"{membership}\n", **paths}))


@needs_affinity
def test_v1_without_a_quota(root: Path) -> None:
    """The -1 of control groups v1 is no quota."""
    files = {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}

    assert cpus_here() == hardware.count_cpus(write(root, {"proc/self/cgroup": "1:cpu:/\n", **files}))


@needs_affinity
def test_the_quotas_of_other_groups_do_not_count(root: Path) -> None:
    """A quota beside the group of this process, or below it, cuts nothing."""
    files = {"sys/fs/cgroup/other/cpu.max": "1 1", "sys/fs/cgroup/job/below/cpu.max": "1 1"}
    (root / "sys/fs/cgroup/job").mkdir()

    assert cpus_here() == hardware.count_cpus(write(root, {"proc/self/cgroup": "0::/job\n", **files}))


# -- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("membership", "file", "limit"),
    [
        ("0::/", "memory.max", 1 << 20),
        ("0::/job", "job/memory.max", 1 << 20),
        ("0::/job", "memory.max", 1 << 20),
        ("4:memory:/job", "memory/job/memory.limit_in_bytes", 1 << 20),
        ("4:memory:/docker/1234", "memory/memory.limit_in_bytes", 1 << 20),
        ("4:memory:/", "memory/memory.limit_in_bytes", 9223372036854771712),
    ],
)
def test_a_limit_cuts_the_memory(root: Path, membership: str, file: str, limit: int) -> None:
    """Memory is the machine's, cut by the limit of the group of this process or of one above it."""
    machine = write(root, {"proc/self/cgroup": f"{membership}\n", f"sys/fs/cgroup/{file}": f"{limit}\n"})

    assert min(limit, psutil.virtual_memory().total) == hardware.count_memory(machine)


def test_the_smallest_limit_counts(root: Path) -> None:
    """Of several limits, the smallest counts, at whatever height it stands."""
    files = {"sys/fs/cgroup/memory.max": "1048576", "sys/fs/cgroup/job/memory.max": "2097152"}

    assert 1048576 == hardware.count_memory(write(root, {"proc/self/cgroup": "0::/job", **files}))


def test_memory_without_a_limit(root: Path) -> None:
    """Without a limit, memory is the machine's."""
    machine = write(root, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"})

    assert psutil.virtual_memory().total == hardware.count_memory(machine)


@pytest.mark.parametrize(
    ("membership", "file", "text"),
    [
        ("0::/job", "job/memory.events", "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n"),
        ("4:memory:/job", "memory/job/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
        ("4:memory:/docker/1", "memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
    ],
)
def test_kills_for_lack_of_memory_are_counted(root: Path, membership: str, file: str, text: str) -> None:
    """The kernel's own count of the processes that it killed in this container, v2 and v1."""
    assert 2 == hardware.oom_kills(write(root, {"proc/self/cgroup": membership, f"sys/fs/cgroup/{file}": text}))


# -- GPUs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts an `nvidia-smi` on PATH, a shell script; returns the file that is there once it has been run."""

    def make(script: str) -> Path:
        folder, ran = tmp_path / "bin", tmp_path / "ran"
        folder.mkdir()
        program = folder / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ntouch {ran}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return ran

    return make


#: Prints what a healthy nvidia-smi prints for GPUtil's query, for two GPUs.
TWO_GPUS = """
case "$*" in "--query-gpu=index,uuid,"*" --format=csv,noheader,nounits") ;; *) exit 2 ;; esac
echo '0, GPU-5f3c2a31-6a44, 3, 16160, 12, 16148, 470.57.02, Tesla V100-SXM2-16GB, 0323617004258, Disabled, Disabled, 34'
echo '1, GPU-77a1c9d0-02be, 0, 16160, 12, 16148, 470.57.02, Tesla V100-SXM2-16GB, [N/A], Disabled, Disabled, 31'
"""


def test_gpus_are_counted_from_their_device_files(root: Path, nvidia_smi: Callable[[str], Path]) -> None:
    """Each /dev/nvidia<number> is a GPU, the driver's other files are none, and no process is asked."""
    ran = nvidia_smi(TWO_GPUS)
    names = ["nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm", "nvidia-modeset", "nvidia-caps/nvidia-cap1"]

    assert 3 == hardware.count_gpus(write(root, {f"dev/{name}": "" for name in names}))
    assert not ran.exists()


def test_a_driver_without_devices_is_an_answer(root: Path, nvidia_smi: Callable[[str], Path]) -> None:
    """Where the driver is loaded and this container got no device, there are no GPUs, and no process is asked."""
    ran = nvidia_smi(TWO_GPUS)

    assert 0 == hardware.count_gpus(write(root, {"proc/driver/nvidia/version": "NVRM version: 470.57.02"}))
    assert not ran.exists()


def test_gpus_without_device_files(root: Path, nvidia_smi: Callable[[str], Path]) -> None:
    """Where there are no device files but an nvidia-smi, it is asked."""
    ran = nvidia_smi(TWO_GPUS)

    assert 2 == hardware.count_gpus(str(root))
    assert ran.exists()


@pytest.mark.parametrize(
    "script",
    [
        "echo 'No devices were found'",
        'echo "NVIDIA-SMI has failed because it couldn\'t communicate with the NVIDIA driver."; exit 9',
        "echo 'Failed to initialize NVML: Driver/library version mismatch' >&2; exit 18",
        "exit 127",
        "kill -SEGV $$",
        "printf '\\377\\376\\000garbage\\n'",
        "echo '0, GPU-5f3c2a31, 3, 0, 0, 0'",
        "head -c 1000000 /dev/zero | tr '\\0' ','; echo",
    ],
)
def test_a_broken_nvidia_smi_counts_for_nothing(
    root: Path, nvidia_smi: Callable[[str], Path], script: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever an nvidia-smi fails with or prints, there are no GPUs, and no error."""
    ran = nvidia_smi(script)

    assert 0 == hardware.count_gpus(str(root))
    assert ran.exists()
    assert "Traceback" not in capfd.readouterr().err


def test_an_nvidia_smi_that_cannot_be_run_counts_for_nothing(root: Path, nvidia_smi: Callable[[str], Path]) -> None:
    """An nvidia-smi whose interpreter is missing is as good as none."""
    program = nvidia_smi("").parent / "bin/nvidia-smi"
    program.write_text("#!/nowhere/sh\n")

    assert 0 == hardware.count_gpus(str(root))


def test_an_nvidia_smi_that_hangs(
    root: Path, nvidia_smi: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One that does not answer in time is killed, with what it started; there are no GPUs, and the log says why."""
    held = tmp_path / "held"  # Open for as long as any of the processes is there.
    os.mkfifo(held)
    reading = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    ran = nvidia_smi(f"exec 9>{held}; trap '' TERM INT; echo started >&9; sleep 1000 & sleep 1000")
    gpus = hardware.count_gpus(str(root), deadline=0.5)

    assert ran.exists()
    assert 0 == gpus
    assert "nvidia-smi is there but did not answer within 0.5 s: counting no GPUs" in capfd.readouterr().err
    assert b"started\n" == os.read(reading, 100)
    ended, _, _ = select.select([reading], [], [], 10)
    assert (True, b"") == (bool(ended), os.read(reading, 100))
    os.close(reading)
    assert [] == [child for child in psutil.Process().children() if child.name() == "nvidia-smi"]


def test_a_job_goes_on_with_a_broken_nvidia_smi(job: Job, nvidia_smi: Callable[[str], Path]) -> None:
    """The job of an image whose nvidia-smi fails runs all the same."""
    nvidia_smi("echo garbage; exit 9")
    job.program("import os; assert os.environ['SM_NUM_GPUS'].isdigit()")
    done = job.run()

    assert done.succeeded, done.stderr


def test_gputil_works_without_distutils(root: Path, nvidia_smi: Callable[[str], Path]) -> None:
    """GPUtil imports distutils, which Python has no more from 3.12 on: it is asked there too."""
    nvidia_smi(TWO_GPUS)
    code = (
        "import sys; sys.modules['distutils'] = None;"  # Importing it fails now, on any Python.
        "from sagemaker_framework.config import hardware;"
        f"print(hardware.count_gpus({str(root)!r}), 'distutils' in sys.modules)"
    )

    assert "2 False\n" == subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True).stdout


# -- Neuron cores ------------------------------------------------------------------------------------------------


def neuron(root: Path, devices: dict[str, str], device_name: str = "") -> str:
    """A machine with these devices, each with so many cores."""
    folder = "sys/devices/virtual/neuron_device"
    names = {f"{folder}/{device}/info/architecture/device_name": f"{device_name}\n" for device in devices}
    counts = {f"{folder}/{device}/core_count": f"{count}\n" for device, count in devices.items()}
    return write(root, {**{f"dev/{device}": "" for device in devices}, **counts, **(names if device_name else {})})


@pytest.mark.parametrize("device_name", ["", "Inferentia2", "Trainium1"])
def test_neuron_cores_are_counted_from_sysfs(root: Path, device_name: str) -> None:
    """The cores of every Neuron device are added up, as the driver tells of them."""
    assert 32 == hardware.count_neuron_cores(neuron(root, {f"neuron{n}": "2" for n in range(16)}, device_name))


@pytest.mark.parametrize(("setting", "cores"), [("", 64), ("1", 128), ("2", 64), ("many", 64)])
def test_two_cores_of_trainium2_are_one(root: Path, monkeypatch: pytest.MonkeyPatch, setting: str, cores: int) -> None:
    """From Trainium2 on, a program sees two cores as one, unless NEURON_LOGICAL_NC_CONFIG says otherwise."""
    monkeypatch.setenv("NEURON_LOGICAL_NC_CONFIG", setting)

    assert cores == hardware.count_neuron_cores(neuron(root, {f"neuron{n}": "8" for n in range(16)}, "Trainium2"))


def test_only_the_containers_neuron_devices_count(root: Path) -> None:
    """A device that sysfs tells of, but whose device file this container has not got, does not count."""
    machine = neuron(root, {"neuron0": "2", "neuron1": "2"})
    (root / "dev/neuron1").unlink()

    assert 2 == hardware.count_neuron_cores(machine)


def test_a_neuron_device_that_says_nothing_counts_for_nothing(root: Path) -> None:
    """A device without a core count, or with one that is no number, is no reason to fail."""
    machine = neuron(root, {"neuron0": "2", "neuron1": "?"})

    assert 2 == hardware.count_neuron_cores(write(root, {"dev/neuron2": ""}))
    assert 2 == hardware.count_neuron_cores(machine)


# -- nothing to be seen ------------------------------------------------------------------------------------------


@needs_affinity
def test_a_machine_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc, /sys and /dev, there are the CPUs and the memory that the system calls tell of."""
    monkeypatch.setenv("PATH", str(tmp_path))
    nowhere = str(tmp_path / "nowhere")

    assert cpus_here() == hardware.count_cpus(nowhere)
    assert psutil.virtual_memory().total == hardware.count_memory(nowhere)
    assert (0, 0, 0) == (
        hardware.count_gpus(nowhere),
        hardware.count_neuron_cores(nowhere),
        hardware.oom_kills(nowhere),
    )


def test_programs_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program is on PATH if it is in one of its folders and may be run."""
    for name, mode in (("runs", 0o755), ("is-data", 0o644)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    monkeypatch.setenv("PATH", f"/nowhere{os.pathsep}{os.pathsep}{tmp_path}")

    assert [True, False, False] == [hardware.is_on_path(name) for name in ("runs", "is-data", "missing")]
