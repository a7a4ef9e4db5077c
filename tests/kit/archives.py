"""Makes archives, well-formed and hostile, out of descriptions of their members."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from typing import Callable

MTIME = 1_600_000_000


def file(name: str, content: bytes = b"print()\n", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    """A regular file of a tar."""
    return member(name, tarfile.REGTYPE, mode=mode, content=content)


def member(
    name: str, type: bytes, target: str = "", mode: int = 0o755, content: bytes = b""
) -> tuple[tarfile.TarInfo, bytes]:
    """A tar's member of any type."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime, info.size = type, target, mode, MTIME, len(content)
    return info, content


def folder(name: str) -> tuple[tarfile.TarInfo, bytes]:
    """A folder of a tar."""
    return member(name, tarfile.DIRTYPE)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    """A symlink of a tar."""
    return member(name, tarfile.SYMTYPE, target)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    """A hard link of a tar."""
    return member(name, tarfile.LNKTYPE, target)


def tar(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    """An uncompressed tar archive of `members`, in order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_member(name: str, mode: int = 0) -> zipfile.ZipInfo:
    """The header of a zip's member; `mode` is Unix' type and permissions, 0 for none."""
    info = zipfile.ZipInfo(name, (2020, 9, 13, 12, 26, 40))
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = mode << 16
    return info


def zip_file(*members: tuple[zipfile.ZipInfo, bytes]) -> bytes:
    """A zip archive of `members`, in order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for info, content in members:
            archive.writestr(info, content)
    return buffer.getvalue()


def zip_symlink(name: str, target: str) -> tuple[zipfile.ZipInfo, bytes]:
    """A symlink of a zip."""
    return zip_member(name, stat.S_IFLNK | 0o777), target.encode()


def zstd(content: bytes) -> bytes:
    """`content` compressed with zstd."""
    import zstandard

    return zstandard.ZstdCompressor().compress(content)


def sample(kind: str, *, name: str = "train.py", content: bytes = b"print()\n") -> bytes:
    """An archive of one file: kind is a key of COMPRESSIONS, or zip."""
    if kind == "zip":
        return zip_file((zip_member(name), content))
    return COMPRESSIONS[kind](tar(file(name, content)))


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
}
