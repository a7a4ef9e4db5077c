"""Where the user's code may come from, and what becomes of what the image has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from archives import MTIME, file, folder, sample, tar

from sagemaker_framework.code.source import fetch
from sagemaker_framework.errors import SourceError

HEAVY = {"boto3", "botocore", "tarfile", "zipfile", "shutil", "re", "logging", "typing"}


@pytest.fixture
def submitted(tmp_path: Path) -> Path:
    """A folder of code, as in local mode."""
    path = tmp_path / "submitted"
    (path / "pkg").mkdir(parents=True)
    (path / "train.py").write_text("print('submitted')\n")
    (path / "pkg/model.py").write_text("")
    return path


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """The code folder, not there yet."""
    return tmp_path / "opt/ml/code"


def refusal(uri: object, code: Path) -> str:
    with pytest.raises(SourceError) as caught:
        fetch(str(uri), str(code))
    return str(caught.value)


def files(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*") if not found.is_dir())


def test_importing_is_cheap() -> None:
    """Importing the module imports none of the slow ones."""
    script = "import sys; import sagemaker_framework.code.source; print(*sys.modules)"

    imported = subprocess.check_output([sys.executable, "-S", "-c", script], text=True, cwd=Path(__file__).parents[2])

    assert HEAVY.isdisjoint(imported.split())


# -- where from --------------------------------------------------------------------------------------------------


def test_archive_in_s3(s3: Any, code: Path) -> None:
    """An archive comes from S3, over HTTP, to a code folder that is made for it."""
    s3.put_object(Bucket="code", Key="job/source.tar.gz", Body=sample("gzip"))

    fetch("s3://code/job/source.tar.gz", str(code))

    assert (code / "train.py").read_text() == "print()\n"


def test_zip_in_s3(s3: Any, code: Path) -> None:
    """A zip comes from S3, and nothing of it stays but its members."""
    s3.put_object(Bucket="code", Key="source.zip", Body=sample("zip"))

    fetch("s3://code/source.zip", str(code))

    assert files(code) == ["train.py"]


def test_key_with_unusual_characters(s3: Any, code: Path) -> None:
    """A key is taken as it stands, not as a URL."""
    s3.put_object(Bucket="code", Key="a b+c/é?x=%41#1/source.tar", Body=sample("tar"))

    fetch("s3://code/a b+c/é?x=%41#1/source.tar", str(code))

    assert files(code) == ["train.py"]


def test_folder(submitted: Path, code: Path) -> None:
    """A local folder is copied with all that is in it."""
    fetch(str(submitted), str(code))

    assert files(code) == ["pkg/model.py", "train.py"]


def test_file_uri(submitted: Path, code: Path) -> None:
    """A file:// URI is a local path."""
    (submitted / "a b").mkdir()
    (submitted / "a b/train.py").write_text("")

    fetch(f"file://{submitted}/a%20b", str(code))

    assert files(code) == ["train.py"]


def test_single_file(submitted: Path, code: Path) -> None:
    """A local file that is not an archive is copied under its name."""
    fetch(str(submitted / "train.py"), str(code))

    assert files(code) == ["train.py"]


def test_single_file_in_its_place(submitted: Path) -> None:
    """A file that is in the code folder already stays as it is."""
    fetch(str(submitted / "train.py"), str(submitted))

    assert (submitted / "train.py").read_text() == "print('submitted')\n"


def test_archive_in_the_code_folder(code: Path) -> None:
    """An archive that the image has in the code folder is unpacked there."""
    code.mkdir(parents=True)
    (code / "source.tar").write_bytes(sample("tar"))

    fetch(str(code / "source.tar"), str(code))

    assert files(code) == ["source.tar", "train.py"]


def test_the_code_folder_itself(submitted: Path, tmp_path: Path) -> None:
    """Code that is where it belongs, under whatever name, is left alone."""
    (tmp_path / "alias").symlink_to(submitted)

    fetch(str(tmp_path / "alias"), str(submitted))

    assert files(submitted) == ["pkg/model.py", "train.py"]


def test_code_folder_by_a_symlink(submitted: Path, tmp_path: Path) -> None:
    """The code folder may itself be a symlink."""
    (tmp_path / "volume").mkdir()
    (tmp_path / "code").symlink_to("volume")

    fetch(str(submitted), str(tmp_path / "code"))

    assert files(tmp_path / "volume") == ["pkg/model.py", "train.py"]


# -- local folders -----------------------------------------------------------------------------------------------


def test_attributes_of_copied_files(submitted: Path, code: Path) -> None:
    """A copied file keeps its permissions and its time."""
    (submitted / "train.py").chmod(0o755)
    os.utime(submitted / "train.py", (MTIME, MTIME))

    fetch(str(submitted), str(code))

    status = (code / "train.py").stat()
    assert (status.st_mode & 0o777, status.st_mtime) == (0o755, MTIME)


@pytest.mark.parametrize("absolute", [False, True])
def test_symlink_within_the_folder(submitted: Path, code: Path, absolute: bool) -> None:
    """A symlink to what is copied too stays one, and leads to the copy."""
    (submitted / "pkg/link").symlink_to(submitted / "train.py" if absolute else "../train.py")

    fetch(str(submitted), str(code))

    assert os.readlink(code / "pkg/link") == "../train.py"


@pytest.mark.parametrize(("target", "expected"), [("shared", "link/util.py"), ("shared/util.py", "link")])
def test_symlink_out_of_the_folder(submitted: Path, code: Path, tmp_path: Path, target: str, expected: str) -> None:
    """What a symlink to elsewhere leads to is copied in its place."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/util.py").write_text("shared")
    (submitted / "link").symlink_to(tmp_path / target)

    fetch(str(submitted), str(code))

    assert not (code / "link").is_symlink()
    assert (code / expected).read_text() == "shared"


def test_dangling_symlink(submitted: Path, code: Path) -> None:
    """A symlink to nothing is kept as it is."""
    (submitted / "link").symlink_to("/nonexistent/file")

    fetch(str(submitted), str(code))

    assert os.readlink(code / "link") == "/nonexistent/file"


def test_symlinks_in_a_circle(submitted: Path, code: Path, tmp_path: Path) -> None:
    """A symlink to a folder that contains it fails the job rather than being copied for ever."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/back").symlink_to(tmp_path)
    (submitted / "link").symlink_to(tmp_path / "shared")

    assert "'link/back' is a symlink" in refusal(submitted, code)


def test_fifo_in_a_folder(submitted: Path, code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is neither file nor folder is left out, with a warning."""
    os.mkfifo(submitted / "pipe")

    fetch(str(submitted), str(code))

    assert f"WARNING  {submitted}/pipe is neither a file nor a folder" in capsys.readouterr().err


@pytest.mark.parametrize("code_in", ["submitted/code", "submitted/pkg", "."])
def test_overlapping_folders(submitted: Path, code_in: str) -> None:
    """A folder that contains the code folder, or is inside of it, fails the job rather than being copied for ever."""
    assert "overlap" in refusal(submitted, submitted.parent / code_in)


def test_symlink_to_a_folder_around_the_code_folder(submitted: Path, code: Path) -> None:
    """A symlink cannot make the code folder copied into itself."""
    code.mkdir(parents=True)
    (submitted / "link").symlink_to(code.parent)

    assert "overlap" in refusal(submitted, code)


# -- what the image has ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_submitted_code_wins(
    submitted: Path, code: Path, tmp_path: Path, packed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The submitted code replaces the image's, and the log says so."""
    code.mkdir(parents=True)
    (code / "train.py").write_text("of the image, and longer than what is submitted")
    uri = submitted
    if packed:
        uri = tmp_path / "source.tar"
        uri.write_bytes(tar(file("train.py", b"print('submitted')\n")))

    fetch(str(uri), str(code))

    assert (code / "train.py").read_text() == "print('submitted')\n"
    assert f"The submitted source replaced 1 file of the image in {code}: train.py\n" in capsys.readouterr().err


def test_other_files_of_the_image_stay(submitted: Path, code: Path) -> None:
    """What the image has and the submission has not stays."""
    code.mkdir(parents=True)
    (code / "util.py").write_text("of the image")

    fetch(str(submitted), str(code))

    assert (code / "util.py").read_text() == "of the image"


def test_the_log_names_five_replaced_files(code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of many replaced files, the log gives the number and five names, in one line."""
    names = [f"{number}.py" for number in range(7)]
    code.mkdir(parents=True)
    for name in names:
        (code / name).write_text("")
    (tmp_path / "source.tar").write_bytes(tar(*map(file, names)))

    fetch(str(tmp_path / "source.tar"), str(code))

    line = f"replaced 7 files of the image in {code}: 0.py, 1.py, 2.py, 3.py, 4.py and 2 more"
    assert line in capsys.readouterr().err


def test_nothing_is_said_when_nothing_was_replaced(
    code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that the archive has twice, or a folder that was there, replaces nothing of the image."""
    (code / "pkg").mkdir(parents=True)
    (tmp_path / "source.tar").write_bytes(tar(folder("pkg"), file("pkg/a.py", b"1"), file("pkg/a.py", b"2")))

    fetch(str(tmp_path / "source.tar"), str(code))

    assert (code / "pkg/a.py").read_text() == "2"
    assert "replaced" not in capsys.readouterr().err


# -- errors ------------------------------------------------------------------------------------------------------


def test_missing_path(code: Path) -> None:
    """A path that does not exist fails the job with its name."""
    assert refusal("/no/such/folder", code).startswith("/no/such/folder does not exist")


def test_unsupported_scheme(code: Path) -> None:
    """A URI of another scheme fails the job with what is supported, and without its query, which may be secret."""
    message = refusal("https://bucket.s3.amazonaws.com/source.tar.gz?X-Amz-Signature=abc", code)

    assert message == (
        "https://bucket.s3.amazonaws.com/source.tar.gz cannot be fetched; use s3://bucket/key or a local path"
    )


@pytest.mark.parametrize("uri", ["s3://", "s3://bucket", "s3://bucket/", "s3:///key", "s3://bucket/prefix/"])
def test_uri_without_an_object(uri: str, code: Path) -> None:
    """An S3 URI that names no object fails the job with what it should look like."""
    assert "s3://bucket/key" in refusal(uri, code)


def test_special_file(tmp_path: Path, code: Path) -> None:
    """A FIFO fails the job rather than being waited for."""
    os.mkfifo(tmp_path / "pipe")

    assert "neither a folder nor a file" in refusal(tmp_path / "pipe", code)


def test_code_folder_that_is_a_file(submitted: Path, tmp_path: Path) -> None:
    """A file in the place of the code folder fails the job."""
    (tmp_path / "code").write_text("")

    assert refusal(submitted, tmp_path / "code") == (
        f"{submitted} cannot be brought to the code folder: File exists: {tmp_path}/code"
    )


def test_s3_object_that_is_no_archive(s3: Any, code: Path) -> None:
    """An object of another kind fails the job with the kinds that are supported."""
    s3.put_object(Bucket="code", Key="train.py", Body=b"print()\n")

    assert ".tar.gz" in refusal("s3://code/train.py", code)


def test_empty_s3_object(s3: Any, code: Path) -> None:
    """An object of no bytes is not an archive."""
    s3.put_object(Bucket="code", Key="source.tar.gz", Body=b"")

    assert "is not an archive" in refusal("s3://code/source.tar.gz", code)


def test_errors_are_one_line(code: Path) -> None:
    """A URI with a line break does not break the message."""
    assert "\n" not in refusal("/no/such\nfolder", code)
