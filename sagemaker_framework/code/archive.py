"""Unpacks archives into the code folder, as they arrive."""

from __future__ import annotations

import os
import stat
import sys
import time

from sagemaker_framework.errors import SourceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    import zipfile
    from io import BufferedReader
    from typing import IO, Any

    from sagemaker_framework.code.folder import CodeFolder

#: The kinds of archive that can be unpacked, for messages.
SUPPORTED = ".tar, .tar.gz, .tar.bz2, .tar.xz, .tar.zst or .zip"

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",  # One without members.
}
_BLOCK = 512  # bytes of a tar header
_CHUNK = 1 << 20  # bytes
_LONGEST_TARGET = 4096  # bytes: Linux takes no longer target of a symlink


def unpack(stream: BufferedReader, folder: CodeFolder) -> bool:
    """Unpack the archive in `stream`, whose first bytes tell its kind.

    A tar archive streams through: it is neither held in memory nor copied to the disk. A
    zip's table of contents stands at its end, so a zip that cannot seek is first copied to
    an unnamed file.

    Args:
        stream: the archive, at its start, with a buffer of at least 512 bytes.
        folder: the folder that receives the members.

    Returns:
        True if it is an archive; if not, nothing was read and nothing was changed.

    Raises:
        SourceError: the archive is corrupt, empty, or has a member that is refused.
        OSError: the disk is full, or cannot be written.
    """
    kind = _kind(stream.peek(_BLOCK)[:_BLOCK])
    if kind is None:
        return False
    try:
        if kind == "zip":
            _unpack_zip(stream, folder)
        else:
            _unpack_tar(_decompressed(stream, kind, folder), folder)
    except SourceError:
        raise
    except Exception as error:  # The decoders share no base: zlib.error, LZMAError, struct.error, ...
        if getattr(error, "errno", None):
            raise  # The disk failed, or the source of the stream did.
        what = kind if kind in ("tar", "zip") else f"{kind}-compressed tar"
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise SourceError(
            f"{folder.source} is not an intact {what} archive, but truncated or corrupt ({why}); "
            "make and upload it again"
        ) from error
    if not folder.added:
        raise SourceError(f"{folder.source} is an empty archive: it contains no file; pack the program's files")
    return True


def _kind(head: bytes) -> str | None:
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    return "tar" if _is_tar(head) else None


def _is_tar(head: bytes) -> bool:
    import tarfile

    if len(head) < _BLOCK:
        return False
    try:
        tarfile.TarInfo.frombuf(head, tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return not any(head)  # The end marker: a tar without members.
    return True


def _decompressed(stream: BufferedReader, kind: str, folder: CodeFolder) -> Any:
    """Return the tar archive in the compressed `stream`: a binary file that can only be read forwards."""
    try:
        if kind == "gzip":
            import gzip

            return gzip.GzipFile(fileobj=stream, mode="rb")
        if kind == "bzip2":
            import bz2

            return bz2.BZ2File(stream)
        if kind == "xz":
            import lzma

            return lzma.LZMAFile(stream)
        if kind == "zstd":
            return _zstd(stream)
    except ImportError as error:
        remedy = "pip install zstandard in the image, or " if kind == "zstd" else ""
        raise SourceError(
            f"{folder.source} is compressed with {kind}, which this Python cannot read; {remedy}submit a .tar.gz"
        ) from error
    return stream


def _zstd(stream: BufferedReader) -> Any:
    if sys.version_info >= (3, 14):
        try:
            from compression import zstd

            return zstd.ZstdFile(stream)
        except ImportError:
            pass  # Built without it.
    import zstandard

    return zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)


def _unpack_tar(stream: IO[bytes], folder: CodeFolder) -> None:
    import tarfile

    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_strict_member()) as tar:
        for member in tar:
            _add_tar_member(tar, member, folder)
            tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep all of them.
    while stream.read(_CHUNK):
        pass  # The checksum stands at the end, and is only verified when it is read.


def _strict_member() -> type[tarfile.TarInfo]:
    import tarfile

    class StrictMember(tarfile.TarInfo):
        """A member with a broken header is an error; plain tarfile takes it for the end of the archive.

        A missing end marker is an error too: a tar that is cut off between two members is truncated.
        """

        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> StrictMember:
            try:
                return super().frombuf(buf, encoding, errors)
            except tarfile.HeaderError as error:
                if len(buf) == _BLOCK and not any(buf):
                    raise  # The end marker.
                raise tarfile.ReadError(str(error) if buf else "there is no end marker") from error

    return StrictMember


def _add_tar_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: CodeFolder) -> None:
    if member.isdir():
        folder.add_folder(member.name, member.mode)
    elif member.issym():
        folder.add_symlink(member.name, member.linkname)
    elif member.islnk():
        folder.add_hard_link(member.name, member.linkname)
    elif member.isreg():
        content = tar.extractfile(member)
        assert content is not None  # A regular file always has content.
        folder.add_file(member.name, content, member.mode, member.mtime)
    else:
        kind = "a device" if member.isblk() or member.ischr() else "a FIFO" if member.isfifo() else "of unknown type"
        raise folder.refusal(member.name, f"is {kind}")


def _unpack_zip(stream: IO[bytes], folder: CodeFolder) -> None:
    import tempfile
    import zipfile

    if not stream.seekable():
        with tempfile.TemporaryFile(dir=folder.path) as seekable:  # /tmp may be small.
            while chunk := stream.read(_CHUNK):
                seekable.write(chunk)
            _unpack_zip(seekable, folder)
        return
    with zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            if member.flag_bits & 1:
                raise folder.refusal(member.filename, "is encrypted")
            _add_zip_member(archive, member, folder)


def _add_zip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: CodeFolder) -> None:
    mode = member.external_attr >> 16  # The Unix mode; 0 in an archive made elsewhere.
    if member.filename.endswith("/") or stat.S_ISDIR(mode):
        folder.add_folder(member.filename, stat.S_IMODE(mode) or 0o755)
        return
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFLNK):
        raise folder.refusal(member.filename, "is a device, FIFO or socket")
    with archive.open(member) as content:
        if stat.S_ISLNK(mode):
            folder.add_symlink(member.filename, os.fsdecode(content.read(_LONGEST_TARGET)))
        else:
            mtime = time.mktime((*member.date_time, 0, 0, -1))
            folder.add_file(member.filename, content, stat.S_IMODE(mode) or 0o644, mtime)
