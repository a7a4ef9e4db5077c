"""What unpacking an archive does to the code folder, and what it refuses."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from archives import (
    COMPRESSIONS,
    MTIME,
    file,
    folder,
    hard_link,
    member,
    sample,
    symlink,
    tar,
    zip_file,
    zip_member,
    zip_symlink,
)

from sagemaker_framework.code.source import fetch
from sagemaker_framework.errors import SourceError

needs_zstd = pytest.mark.skipif(importlib.util.find_spec("zstandard") is None, reason="makes .zst with zstandard")
KINDS = [pytest.param(kind, marks=needs_zstd if kind == "zstd" else ()) for kind in (*COMPRESSIONS, "zip")]


class Code:
    """A code folder of a test: `root` is the folder, `outside` one that nothing may touch."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "code"
        self.outside = base / "outside"
        self.root.mkdir()
        self.outside.mkdir()
        (self.outside / "file").write_text("untouched")

    def unpack(self, archive: bytes, name: str = "source") -> None:
        path = self.base / name
        path.write_bytes(archive)
        fetch(str(path), str(self.root))

    def refuse(self, archive: bytes) -> str:
        with pytest.raises(SourceError) as caught:
            self.unpack(archive)
        assert list(self.outside.iterdir()) == [self.outside / "file"]
        assert (self.outside / "file").read_text() == "untouched"
        return str(caught.value)


@pytest.fixture
def code(tmp_path: Path) -> Code:
    return Code(tmp_path)


# -- formats -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_is_unpacked_whatever_its_name(code: Code, kind: str) -> None:
    """The first bytes tell the format of an archive, not its name."""
    code.unpack(sample(kind, content=b"print('hello')\n"), name="source.txt")

    assert (code.root / "train.py").read_bytes() == b"print('hello')\n"


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names(code: Code, format: int) -> None:
    """Names of more than 100 characters are kept in each dialect of tar."""
    name = f"{'p' * 90}/{'q' * 90}.py"

    code.unpack(tar(file(name), format=format))

    assert (code.root / name).is_file()


@pytest.mark.parametrize("name", ["träin ☃.py", "with\nnewline", "-rf", "a\\b", "..py"])
def test_unusual_names(code: Code, name: str) -> None:
    """Any name that Linux allows is kept as it is."""
    code.unpack(tar(file(name)))

    assert os.listdir(code.root) == [name]


def test_names_that_are_not_utf8(code: Code) -> None:
    """A name in another encoding is kept byte for byte."""
    code.unpack(tar(file("caf\udce9.py"), format=tarfile.GNU_FORMAT))

    assert os.listdir(os.fsencode(code.root)) == [b"caf\xe9.py"]


@pytest.mark.parametrize("name", ["./pkg/train.py", "pkg//train.py", "pkg/./train.py", "other/../pkg/train.py"])
def test_names_that_are_not_normal(code: Code, name: str) -> None:
    """A name is taken for what it means, as long as that is inside."""
    code.unpack(tar(folder("."), folder("./pkg/"), file(name)))

    assert [path.relative_to(code.root) for path in code.root.rglob("*")] == [Path("pkg"), Path("pkg/train.py")]


def test_a_tar_without_magic(code: Code) -> None:
    """A tar as Unix V7 wrote it, without "ustar" in its header, is told by the header's checksum."""
    header = bytearray(tar(file("train.py", b""), format=tarfile.USTAR_FORMAT))
    header[257:265] = bytes(8)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])

    code.unpack(bytes(header))

    assert (code.root / "train.py").is_file()


def test_gzip_in_parts(code: Code) -> None:
    """A gzip file of several parts, as bgzip or cat make it, is unpacked to its end."""
    content = tar(file("first.py"), file("last.py"))

    code.unpack(COMPRESSIONS["gzip"](content[:1024]) + COMPRESSIONS["gzip"](content[1024:]))

    assert (code.root / "last.py").is_file()


def test_sparse_file(code: Code, tmp_path: Path) -> None:
    """The holes of a file that GNU tar stored as sparse are zeros again."""
    with (tmp_path / "weights").open("wb") as sparse:
        sparse.seek(1 << 20)
        sparse.write(b"end")
    tar_file = tmp_path / "sparse.tar"
    subprocess.run(["tar", "--sparse", "-C", tmp_path, "-cf", tar_file, "weights"], check=True)

    fetch(str(tar_file), str(code.root))

    assert (code.root / "weights").read_bytes() == bytes(1 << 20) + b"end"


def test_unpacking_takes_little_memory(code: Code) -> None:
    """An archive of 200 MiB is unpacked in less than 40 MiB of memory."""
    (code.base / "big.tar.gz").write_bytes(COMPRESSIONS["gzip"](tar(file("big", bytes(200 << 20)))))
    script = (
        "import sys; from sagemaker_framework.code.source import fetch; fetch(*sys.argv[1:]);"
        "print(*(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )

    peak = subprocess.check_output([sys.executable, "-c", script, code.base / "big.tar.gz", code.root])

    assert int(peak) < 40 << 10


# -- attributes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packed", "expected"), [(0o6777, 0o755), (0o644, 0o644), (0o666, 0o644), (0o000, 0o600), (0o711, 0o711)]
)
def test_mode(code: Code, packed: int, expected: int) -> None:
    """Permissions are kept, but for setuid, setgid and writing by others; the owner can always write."""
    code.unpack(tar(file("run", mode=packed)))

    assert stat.S_IMODE((code.root / "run").stat().st_mode) == expected


def test_mode_in_zip(code: Code) -> None:
    """Permissions are kept from a zip that has them."""
    code.unpack(zip_file((zip_member("run.sh", stat.S_IFREG | 0o755), b"")))

    assert stat.S_IMODE((code.root / "run.sh").stat().st_mode) == 0o755


def test_mode_of_a_folder_keeps_it_usable(code: Code) -> None:
    """What a folder without permissions holds is unpacked nevertheless."""
    code.unpack(tar(member("pkg", tarfile.DIRTYPE, mode=0), file("pkg/train.py")))

    assert stat.S_IMODE((code.root / "pkg").stat().st_mode) == 0o700


def test_modification_time(code: Code) -> None:
    """Files keep the time at which they were last modified."""
    code.unpack(tar(file("train.py")))

    assert (code.root / "train.py").stat().st_mtime == MTIME


def test_impossible_modification_time(code: Code) -> None:
    """A time that no file can have does not stop the job."""
    info, content = file("train.py")
    info.pax_headers = {"mtime": "1e300"}

    code.unpack(tar((info, content)))

    assert (code.root / "train.py").read_bytes() == content


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could give files away")
def test_ownership(code: Code) -> None:
    """Files belong to the user of the job, whoever packed them."""
    info, content = file("train.py")
    info.uid = info.gid = 12345

    code.unpack(tar((info, content)))

    assert (code.root / "train.py").stat().st_uid == os.geteuid()


# -- links -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "target"), [("link", "pkg/train.py"), ("pkg/link", "../pkg/train.py"), ("pkg/link", "./train.py")]
)
def test_symlink_inside(code: Code, name: str, target: str) -> None:
    """A symlink to what is inside of the code folder is kept."""
    code.unpack(tar(file("pkg/train.py"), symlink(name, target)))

    assert os.readlink(code.root / name) == target


def test_symlink_in_zip(code: Code) -> None:
    """A symlink in a zip becomes one."""
    code.unpack(zip_file((zip_member("train.py"), b""), zip_symlink("link", "train.py")))

    assert os.readlink(code.root / "link") == "train.py"


def test_hard_link_inside(code: Code) -> None:
    """A hard link to an earlier member is the same file."""
    code.unpack(tar(file("train.py"), hard_link("pkg/again.py", "./train.py")))

    assert (code.root / "train.py").samefile(code.root / "pkg/again.py")


def test_hard_link_to_itself(code: Code) -> None:
    """A hard link to the file of its own name leaves that as it is."""
    code.unpack(tar(file("train.py", b"1"), hard_link("train.py", "train.py")))

    assert (code.root / "train.py").read_bytes() == b"1"


# -- what is in the way ------------------------------------------------------------------------------------------


def test_symlink_in_the_way_is_not_followed(code: Code) -> None:
    """A file replaces the image's symlink of its name, not what that leads to."""
    (code.root / "train.py").symlink_to(code.outside / "file")

    code.unpack(tar(file("train.py")))

    assert (code.outside / "file").read_text() == "untouched"


def test_other_name_of_a_file_in_the_way(code: Code) -> None:
    """A file replaces the image's hard link of its name, not the content under its other names."""
    os.link(code.outside / "file", code.root / "train.py")

    code.unpack(tar(file("train.py")))

    assert (code.outside / "file").read_text() == "untouched"


def test_file_in_the_way_of_a_folder(code: Code) -> None:
    """A folder replaces the image's file of its name."""
    (code.root / "pkg").write_text("a file")

    code.unpack(tar(file("pkg/train.py")))

    assert (code.root / "pkg/train.py").is_file()


def test_symlink_in_the_way_of_a_folder(code: Code) -> None:
    """A folder that the archive names replaces the image's symlink of its name."""
    (code.root / "pkg").symlink_to(code.outside)

    code.unpack(tar(folder("pkg"), file("pkg/file")))

    assert (code.outside / "file").read_text() == "untouched"


def test_folder_in_the_way_of_a_file(code: Code) -> None:
    """A file replaces the image's folder of its name."""
    (code.root / "train").mkdir()
    (code.root / "train/old.py").write_text("")

    code.unpack(tar(file("train")))

    assert (code.root / "train").is_file()


def test_a_folder_that_became_a_symlink_is_not_written_through(code: Code) -> None:
    """A folder that was written to, and then replaced by a symlink, is no longer written to."""
    message = code.refuse(tar(file("pkg/a.py"), folder("lib"), symlink("pkg", "lib"), file("pkg/b.py")))

    assert "'pkg/b.py' would be written through the symlink 'pkg'" in message


# -- what is refused ---------------------------------------------------------------------------------------------

HOSTILE = {
    "absolute name": (tar(file("/tmp/evil")), "/tmp/evil"),
    "name that leaves": (tar(file("../outside/evil")), "../outside/evil"),
    "name that leaves late": (tar(file("a/../../outside/evil")), "a/../../outside/evil"),
    "folder that leaves": (tar(folder("../outside/evil")), "../outside/evil"),
    "character device": (tar(member("null", tarfile.CHRTYPE)), "null"),
    "block device": (tar(member("sda", tarfile.BLKTYPE)), "sda"),
    "FIFO": (tar(member("pipe", tarfile.FIFOTYPE)), "pipe"),
    "unknown type": (tar(member("odd", b"Z")), "odd"),
    "file for the folder itself": (tar(file(".")), "."),
    "absolute symlink": (tar(symlink("link", "/etc/passwd")), "link"),
    "symlink that leaves": (tar(symlink("link", "../outside")), "link"),
    "symlink that leaves deeply": (tar(file("a/b"), symlink("a/link", "../../outside")), "a/link"),
    "symlink that leaves late": (tar(file("a/b"), symlink("link", "a/../../outside")), "link"),
    "symlink by way of a symlink": (tar(symlink("a/b", "."), symlink("link", "a/b/../../outside")), "link"),
    "symlink to nowhere": (tar(symlink("link", "")), "link"),
    "file through a symlink": (tar(folder("a"), symlink("b", "a"), file("b/evil")), "b/evil"),
    "folder through a symlink": (tar(folder("a"), symlink("b", "a"), folder("b/evil")), "b/evil"),
    "symlink through a symlink": (tar(folder("a"), symlink("b", "a"), symlink("b/evil", "x")), "b/evil"),
    "symlink to the folder": (tar(symlink("self", "."), file("self/evil")), "self/evil"),
    "hard link that leaves": (tar(hard_link("link", "../outside/file")), "link"),
    "hard link to an absolute name": (tar(hard_link("link", "/etc/passwd")), "link"),
    "hard link to nothing": (tar(hard_link("link", "missing")), "link"),
    "hard link to a folder": (tar(folder("a"), hard_link("link", "a")), "link"),
    "hard link to a symlink": (tar(file("a"), symlink("b", "a"), hard_link("link", "b")), "link"),
    "hard link through a symlink": (tar(file("a/f"), symlink("b", "a"), hard_link("link", "b/f")), "link"),
    "zip: absolute name": (zip_file((zip_member("/tmp/evil"), b"")), "/tmp/evil"),
    "zip: name that leaves": (zip_file((zip_member("../outside/evil"), b"")), "../outside/evil"),
    "zip: folder that leaves": (zip_file((zip_member("../outside/evil/"), b"")), "../outside/evil/"),
    "zip: device": (zip_file((zip_member("null", stat.S_IFCHR | 0o666), b"")), "null"),
    "zip: FIFO": (zip_file((zip_member("pipe", stat.S_IFIFO | 0o666), b"")), "pipe"),
    "zip: socket": (zip_file((zip_member("socket", stat.S_IFSOCK | 0o666), b"")), "socket"),
    "zip: absolute symlink": (zip_file(zip_symlink("link", "/etc/passwd")), "link"),
    "zip: symlink that leaves": (zip_file(zip_symlink("link", "../outside")), "link"),
    "zip: through a symlink": (zip_file(zip_symlink("b", "."), (zip_member("b/evil"), b"")), "b/evil"),
}


@pytest.mark.parametrize(("archive", "culprit"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_archive_is_refused(code: Code, archive: bytes, culprit: str) -> None:
    """A member that could harm fails the job, in one line with its name and the archive's."""
    message = code.refuse(archive)

    assert message.startswith(f"{code.base}/source: the member {culprit!r} ")
    assert "\n" not in message


@pytest.mark.parametrize("name", ["lib/evil", "lib/deep/evil"])
def test_symlink_of_the_image_is_not_written_through(code: Code, name: str) -> None:
    """A member below a symlink that the image has fails the job, with its name."""
    (code.root / "lib").symlink_to(code.outside)

    assert f"{name!r} would be written through the symlink 'lib'" in code.refuse(tar(file(name)))


def test_hard_link_through_a_symlink_of_the_image(code: Code) -> None:
    """A hard link to what a symlink of the image leads to is refused."""
    (code.root / "lib").symlink_to(code.outside)

    assert "'link' is a hard link" in code.refuse(tar(hard_link("link", "lib/file")))


def test_encrypted_zip(code: Code) -> None:
    """A member that needs a password fails the job, with its name."""
    archive = bytearray(sample("zip"))
    archive[6] |= 1
    archive[archive.index(b"PK\x01\x02") + 8] |= 1

    assert "'train.py' is encrypted" in code.refuse(bytes(archive))


def test_nul_in_a_name(code: Code) -> None:
    """A name that no file can have fails the job in one line."""
    info, content = file("train.py")
    info.pax_headers = {"path": "tr\0ain.py"}

    assert "embedded null" in code.refuse(tar((info, content)))


def test_too_long_a_name(code: Code) -> None:
    """A name that is too long for the file system fails the job in one line."""
    assert "File name too long" in code.refuse(tar(file("n" * 300)))


# -- broken archives ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.7])
@pytest.mark.parametrize("kind", KINDS)
def test_truncated_archive(code: Code, kind: str, kept: float) -> None:
    """An archive whose end is missing fails the job, wherever it was cut."""
    archive = sample(kind, content=random.Random(1).randbytes(30_000))

    assert "truncated or corrupt" in code.refuse(archive[: int(len(archive) * kept)])


@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
def test_tar_cut_between_blocks(code: Code, blocks: int) -> None:
    """A tar that was cut where a block ends, or even a member, is not taken for a whole one."""
    assert "truncated or corrupt" in code.refuse(tar(file("a", b"1"), file("b", b"2"))[: blocks * 512])


def test_tar_with_a_broken_header(code: Code) -> None:
    """A header that is broken in the middle of a tar is an error, not its end."""
    archive = bytearray(tar(file("a", b"1"), file("b", b"2")))
    archive[1024] ^= 1

    assert "truncated or corrupt" in code.refuse(bytes(archive))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.values[0] not in ("tar", "zstd")])
def test_flipped_bit(code: Code, kind: str) -> None:
    """A bit that changed in the middle of a compressed archive fails the job."""
    archive = bytearray(sample(kind, content=random.Random(1).randbytes(30_000)))
    archive[15_000] ^= 1

    assert "truncated or corrupt" in code.refuse(bytes(archive))


def test_wrong_checksum_at_the_end(code: Code) -> None:
    """A gzip file is read to its end, where the checksum stands, which must match."""
    archive = bytearray(sample("gzip"))
    archive[-8] ^= 1

    assert "CRC" in code.refuse(bytes(archive))


def test_endless_headers(code: Code) -> None:
    """A tar of nothing but headers for the next header fails the job in one line."""
    header = tar(member("x", tarfile.XHDTYPE), format=tarfile.USTAR_FORMAT)[:512]

    assert "truncated or corrupt" in code.refuse(header * 5000)


def test_compressed_file_that_is_no_tar(code: Code) -> None:
    """A gzip file of something else than a tar fails the job."""
    assert "is not an intact gzip-compressed tar archive" in code.refuse(COMPRESSIONS["gzip"](b"print()\n" * 100))


@pytest.mark.parametrize(
    "archive",
    [tar(), tar(folder("."), folder("pkg")), COMPRESSIONS["gzip"](tar()), zip_file()],
    ids=["tar", "only folders", "gzip", "zip"],
)
def test_empty_archive(code: Code, archive: bytes) -> None:
    """An archive without a file fails the job."""
    assert "is an empty archive" in code.refuse(archive)


def test_zstd_without_support(code: Code) -> None:
    """Where Python cannot read zstd, the error says what to install."""
    path = code.base / "source.tar.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd")
    script = (
        "import sys; sys.modules.update({'zstandard': None, 'compression.zstd': None})\n"
        "from sagemaker_framework.code.source import fetch\n"
        "try: fetch(*sys.argv[1:])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )

    said = subprocess.check_output([sys.executable, "-c", script, path, code.root], text=True)

    assert said.startswith("SourceError")
    assert "pip install zstandard" in said


def test_full_disk(code: Code) -> None:
    """A disk that has no room for the code fails the job, with the folder's name."""
    mount = f"mount -t tmpfs -o size=64k none {code.root}"
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "sh", "-c", mount], check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    (code.base / "source").write_bytes(tar(file("big", bytes(1 << 20))))
    script = (
        "import sys; from sagemaker_framework.code.source import fetch\n"
        "try: fetch(*sys.argv[1:])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    command = f'{mount} && "$0" -c "$1" {code.base}/source {code.root}'

    said = subprocess.check_output(["unshare", "-rm", "sh", "-c", command, sys.executable, script], text=True)

    assert said.startswith("SourceError")
    assert f"the disk of {code.root} is full" in said
