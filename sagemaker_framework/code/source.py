"""Brings the user's code into the code folder: from S3, a folder, an archive or a file."""

from __future__ import annotations

import errno
import os

from sagemaker_framework import log
from sagemaker_framework.code import archive, s3
from sagemaker_framework.code.folder import CodeFolder
from sagemaker_framework.errors import SourceError

#: A file with such a name is meant to be unpacked, whatever its content is.
_ARCHIVE_NAMES = (".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip")


def fetch(uri: str, code_dir: str, *, region: str | None = None) -> None:
    """Bring the user's code to `code_dir`.

    Submitted files replace files of the image with the same name, and the log lists those.
    The image's other files stay.

    Args:
        uri: s3://bucket/key of an archive; or the path (file:// is allowed) of a folder, an
            archive or a single file. If it is `code_dir` itself, nothing is done.
        code_dir: the code folder; it is created if it is missing.
        region: the bucket's region; if None, AWS_REGION, AWS_DEFAULT_REGION or SAGEMAKER_REGION.

    Raises:
        SourceError: the code cannot be fetched. The message says why, and what to do.
    """
    name = uri if uri.isprintable() else repr(uri)
    scheme, separator, rest = uri.partition("://")
    try:
        if not separator:
            _fetch_local(uri, code_dir, name)
        elif scheme.lower() == "file":
            _fetch_local(_unquoted(rest), code_dir, name)
        elif scheme.lower() == "s3":
            _fetch_s3(uri, code_dir, name, region)
        else:
            # A signature may follow the "?".
            raise SourceError(f"{name.partition('?')[0]} cannot be fetched; use s3://bucket/key or a local path")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            problem = f"the disk of {code_dir} is full; give the job a larger volume, or submit less"
        else:
            problem = f"{error.strerror or error}: {error.filename or code_dir}"
        raise SourceError(f"{name} cannot be brought to the code folder: {problem}") from error


def _unquoted(path: str) -> str:
    from urllib.parse import unquote

    return unquote(path)


def _fetch_s3(uri: str, code_dir: str, name: str, region: str | None) -> None:
    folder = CodeFolder(code_dir, name)
    with s3.open_object(uri, region) as stream:
        if not archive.unpack(stream, folder):
            raise SourceError(f"{name} is not an archive; upload the code as {archive.SUPPORTED}")
    folder.log_replaced()


def _fetch_local(path: str, code_dir: str, name: str) -> None:
    if not os.path.exists(path):
        raise SourceError(f"{name or 'The empty path'} does not exist; check sagemaker_submit_directory")
    if os.path.realpath(path) == os.path.realpath(code_dir):
        return
    folder = CodeFolder(code_dir, name)
    if os.path.isdir(path):
        root = os.path.realpath(path)
        _copy_folder(root, "", folder, (root,))
    elif os.path.isfile(path):
        _copy_or_unpack(path, folder)
    else:
        raise SourceError(f"{name} is neither a folder nor a file; check sagemaker_submit_directory")
    folder.log_replaced()


def _copy_or_unpack(path: str, folder: CodeFolder) -> None:
    name = os.path.basename(path)
    with open(path, "rb") as stream:
        if archive.unpack(stream, folder):
            return
        if name.endswith(_ARCHIVE_NAMES):
            raise SourceError(
                f"{folder.source} is not an archive, although its name says so; submit the code as {archive.SUPPORTED}"
            )
        if os.path.realpath(path) != os.path.realpath(os.path.join(folder.path, name)):
            status = os.fstat(stream.fileno())
            folder.add_file(name, stream, status.st_mode, status.st_mtime)


def _copy_folder(path: str, name: str, folder: CodeFolder, roots: tuple[str, ...]) -> None:
    """Copy the content of `path` below the member `name`.

    Args:
        path: a folder; no part of its path is a symlink.
        name: "" for the code folder itself.
        folder: the folder to copy to.
        roots: the submitted folder, then the target of each symlink on the way here.
    """
    _refuse_overlap(path, folder)
    with os.scandir(path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            member = f"{name}/{entry.name}" if name else entry.name
            if entry.is_symlink():
                _copy_symlink(entry.path, member, folder, roots)
            else:
                _copy(entry.path, member, folder, roots)


def _copy(path: str, member: str, folder: CodeFolder, roots: tuple[str, ...]) -> None:
    if os.path.isdir(path):
        folder.add_folder(member, os.stat(path).st_mode)
        _copy_folder(path, member, folder, roots)
    elif os.path.isfile(path):
        with open(path, "rb") as content:
            status = os.fstat(content.fileno())
            folder.add_file(member, content, status.st_mode, status.st_mtime)
    else:
        log.warning(f"{path} is neither a file nor a folder; it is not copied to {folder.path}")


def _copy_symlink(path: str, member: str, folder: CodeFolder, roots: tuple[str, ...]) -> None:
    """Keep a symlink that dangles or stays within the copied folder; copy the target of any other."""
    target = os.path.realpath(path)
    if not os.path.exists(path):
        folder.keep_symlink(member, os.readlink(path))
    elif _contains(roots[-1], target):
        folder.add_symlink(member, os.path.relpath(target, os.path.dirname(path)))
    elif any(_contains(target, root) for root in roots):
        raise folder.refusal(member, f"is a symlink to {target!r}, which contains it")
    else:
        _copy(target, member, folder, (*roots, target))


def _refuse_overlap(path: str, folder: CodeFolder) -> None:
    if _contains(path, folder.path) or _contains(folder.path, path):
        raise SourceError(
            f"{folder.source}: {path} and the code folder {folder.path} overlap; submit a folder beside it"
        )


def _contains(folder: str, path: str) -> bool:
    """Tell whether `path` is `folder` or below it; both without symlinks."""
    return os.path.commonpath([folder, path]) == folder
