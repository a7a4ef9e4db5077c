"""The code folder, and the only ways in which a submission may change it.

Submissions are not trusted: whatever an archive says, nothing is written outside of the
folder or through a symlink, and no member becomes a device or gains privileges. These
checks are here, and not left to tarfile's filters, which depend on Python's patch version.
"""

from __future__ import annotations

import os
import stat

from sagemaker_framework import log
from sagemaker_framework.errors import SourceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

_CHUNK = 1 << 20  # bytes
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_NAMED = 5  # replaced files that the log lists by name


class CodeFolder:
    """Puts the members of one submission into the code folder.

    A member replaces a file, symlink or folder of the same name. Everything else in the
    folder stays. Member names are relative, with "/" between the parts.

    Args:
        path: the folder; `CodeFolder` creates it if it is missing.
        source: the origin of the submission, for messages.
    """

    def __init__(self, path: str, source: str) -> None:
        self.path = os.path.realpath(path)
        self.source = source
        #: The number of files and links that were added.
        self.added = 0
        self._own: set[str] = set()  # The paths that this submission created.
        self._real = {""}  # Folders known not to be symlinks.
        self._replaced: list[str] = []
        os.makedirs(self.path, exist_ok=True)

    def add_folder(self, name: str, mode: int = 0o755) -> None:
        """Make `name` a folder; an existing folder keeps its mode.

        Raises:
            SourceError: the member is refused. Every method here raises it for that.
        """
        parts = self._parts(name)
        if parts:
            self._enter(parts[:-1], name)
            self._make_folder("/".join(parts), mode)

    def add_file(self, name: str, content: IO[bytes], mode: int, mtime: float) -> None:
        """Make `name` a file.

        Args:
            name: the name of the member.
            content: the content; it is read to its end.
            mode: the permissions; setuid, setgid, sticky and write access for group and others are never granted.
            mtime: the time of its last change, in seconds since the epoch.
        """
        path = self._claim(name)
        with open(path, "wb", opener=lambda path, _: os.open(path, _CREATE, 0o600)) as file:
            while chunk := content.read(_CHUNK):
                file.write(chunk)
            os.fchmod(file.fileno(), (mode & 0o755) | 0o600)
        try:
            os.utime(path, (mtime, mtime), follow_symlinks=False)
        except (OverflowError, ValueError, OSError):
            pass  # This file system cannot keep that time.

    def add_symlink(self, name: str, target: str) -> None:
        """Make `name` a symlink to `target`, which must be relative and inside of the code folder."""
        # ".." is only allowed in front, and nothing is below symlinks: the string alone tells where it leads.
        parts = [part for part in target.split("/") if part not in ("", ".")]
        ups = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
        if not target or target.startswith("/") or ".." in parts[ups:] or ups >= len(self._parts(name)):
            raise self.refusal(name, f"is a symlink to {target!r}, which may be outside of the code folder")
        self.keep_symlink(name, target)

    def keep_symlink(self, name: str, target: str) -> None:
        """Make `name` a symlink to `target`, even if that is outside of the folder. Not for archives."""
        os.symlink(target, self._claim(name))

    def add_hard_link(self, name: str, target: str) -> None:
        """Make `name` a hard link to the file `target` of the code folder."""
        parts = _inside(target)
        if not parts or not self._is_file(parts):
            raise self.refusal(name, f"is a hard link to {target!r}, which is not a file of the code folder")
        if parts != self._parts(name):
            os.link(self._at("/".join(parts)), self._claim(name))

    def refusal(self, name: str, reason: str) -> SourceError:
        """Return the error that says why the member `name` is refused."""
        return SourceError(f"{self.source}: the member {name!r} {reason}; pack the source without it")

    def log_replaced(self) -> None:
        """Log which of the image's files were replaced, if any."""
        if not self._replaced:
            return
        count = len(self._replaced)
        names = ", ".join(name if name.isprintable() else repr(name) for name in self._replaced[:_NAMED])
        more = f" and {count - _NAMED} more" if count > _NAMED else ""
        files = "1 file" if count == 1 else f"{count} files"
        log.info(f"The submitted source replaced {files} of the image in {self.path}: {names}{more}")

    def _claim(self, name: str) -> str:
        """Free the path of the file or link `name`, in a real folder, and return it."""
        parts = self._parts(name)
        if not parts:
            raise self.refusal(name, "would replace the code folder itself")
        self._enter(parts[:-1], name)
        relative = "/".join(parts)
        self._remove(relative)
        self._own.add(relative)
        self.added += 1
        return self._at(relative)

    def _parts(self, name: str) -> list[str]:
        parts = _inside(name)
        if parts is None:
            raise self.refusal(name, "would be outside of the code folder")
        return parts

    def _enter(self, parts: list[str], name: str) -> None:
        """Make sure that the folders on the way to `parts` are real folders."""
        for depth in range(1, len(parts) + 1):
            relative = "/".join(parts[:depth])
            if relative in self._real:
                continue
            if os.path.islink(self._at(relative)):
                raise self.refusal(name, f"would be written through the symlink {relative!r}")
            self._make_folder(relative)

    def _make_folder(self, relative: str, mode: int = 0o755) -> None:
        if not stat.S_ISDIR(_mode(self._at(relative))):
            self._remove(relative)
            os.mkdir(self._at(relative), (mode & 0o755) | 0o700)
            self._own.add(relative)
        self._real.add(relative)

    def _remove(self, relative: str) -> None:
        path = self._at(relative)
        mode = _mode(path)
        if not mode:
            return
        if relative not in self._own:
            self._replaced.append(relative)
        if stat.S_ISDIR(mode):
            import shutil

            shutil.rmtree(path)
            self._real = {""}
        else:
            os.unlink(path)

    def _is_file(self, parts: list[str]) -> bool:
        """Tell whether `parts` lead to a regular file, without any symlink on the way."""
        *folders, file = (_mode(self._at("/".join(parts[: depth + 1]))) for depth in range(len(parts)))
        return stat.S_ISREG(file) and all(map(stat.S_ISDIR, folders))

    def _at(self, relative: str) -> str:
        return f"{self.path}/{relative}"


def _inside(name: str) -> list[str] | None:
    """Return the parts of a member's name, none for the folder itself; None if it leads out of the folder."""
    if name.startswith("/"):
        return None
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return parts


def _mode(path: str) -> int:
    """Return the type and permissions of `path` itself, not of a symlink's target; 0 if nothing is there."""
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
