"""What is published: built, put into an environment of its own, and used from there."""

import os
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests/slow/packaging/user_script.py"
LARGEST_FILE = 500_000
LARGEST_WHEEL = 3_000_000
LARGEST_SDIST = 8_000_000
HEAVY = ("torch", "transformers", "faiss", "langgraph", "matplotlib", "sentence_transformers")


def call(*words, **options):
    """Run a command to its end and return what it wrote; fail with it where it fails."""
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=600, **options
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def sdist(tmp_path_factory):
    """Return the source distribution."""
    out = tmp_path_factory.mktemp("sdist")
    call(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", out, cwd=ROOT)
    (file,) = out.iterdir()
    return file


@pytest.fixture(scope="session")
def wheel(sdist, tmp_path_factory):
    """Return the wheel, built of the source distribution and not of the working copy."""
    source = tmp_path_factory.mktemp("source")
    with tarfile.open(sdist) as archive:
        archive.extractall(source, filter="data")
    (folder,) = source.iterdir()
    out = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=folder)
    (file,) = out.iterdir()
    return file


@pytest.fixture(scope="session")
def python(wheel, tmp_path_factory):
    """Return the Python of an environment that holds the wheel, and of others what it needs.

    The dependencies are those of the environment of the tests, which took minutes to install;
    the path to them does not lead to the working copy.
    """
    home = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", home)
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    find = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(call(python, "-c", find).strip())
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-index")
    call(*pip, "--no-deps", wheel)
    others = {Path(metadata.distribution(n).locate_file("")) for n in ("numpy", "pydantic")}
    (packages / "others.pth").write_text("\n".join(map(str, others)), encoding="utf-8")
    return python


@pytest.fixture
def elsewhere(tmp_path):
    """Return how to run a command away from the working copy, without its paths."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return {"cwd": tmp_path, "env": {**environment, "REFLECTORY_FORBID_MODELS": "1"}}


def tracked(*folders):
    """Return the files that git knows, as the package's names have them."""
    if not (ROOT / ".git").exists():
        pytest.skip("no working copy to compare with")
    return set(call("git", "ls-files", "--", *folders, cwd=ROOT).splitlines())


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        sizes = {i.filename: i.file_size for i in archive.infolist()}
    inside = {name for name in names if name.startswith("reflectory/")}
    # What is not committed yet is packed as well, so only what is missing counts.
    assert tracked("reflectory") <= inside
    assert not [n for n in names if "__pycache__" in n or n.endswith((".pyc", ".sqlite"))]
    assert all(n.startswith("reflectory/") or ".dist-info/" in n for n in names)
    assert "reflectory/py.typed" in names and any(n.endswith("/LICENSE") for n in names)
    assert {n: s for n, s in sizes.items() if s > LARGEST_FILE} == {}
    assert wheel.stat().st_size < LARGEST_WHEEL


def test_the_source_distribution_holds_what_a_packager_needs_and_no_large_file(sdist):
    with tarfile.open(sdist) as archive:
        files = {m.name.partition("/")[2]: m.size for m in archive if m.isfile()}
    # What others pack builds and tests itself from it.
    for name in ("LICENSE", "README.md", "pyproject.toml", "constraints.txt", "langgraph.json"):
        assert name in files
    assert tracked("reflectory", "tests", "docs", "examples") <= set(files)
    assert not [n for n in files if n.endswith((".safetensors", ".gguf", ".sqlite", ".pyc"))]
    assert {n: s for n, s in files.items() if s > LARGEST_FILE} == {}
    assert sdist.stat().st_size < LARGEST_SDIST


def test_what_is_installed_is_imported_lightly_and_says_its_version(python, elsewhere):
    code = (
        "import reflectory, sys; from importlib.metadata import version; "
        f"print([m for m in {HEAVY!r} if m in sys.modules], "
        "reflectory.__version__ == version('reflectory'), reflectory.__file__)"
    )
    heavy, same, file = call(python, "-c", code, **elsewhere).rsplit(maxsplit=2)
    assert (heavy, same) == ("[]", "True")
    assert Path(file).is_relative_to(python.parents[1])


def test_the_command_shows_its_help(python, elsewhere):
    command = next(python.parent.glob("reflectory*"))
    shown = call(command, "--help", **elsewhere)
    assert {"demo", "run", "dataset", "train", "improve", "evaluate"} <= set(shown.split())
    assert "--instruction" in call(command, "run", "--help", **elsewhere)


def test_a_users_script_runs_on_what_is_installed(python, elsewhere):
    call(python, SCRIPT, **elsewhere)


def test_every_module_of_what_is_installed_can_be_imported(python, elsewhere):
    """Nothing leans on a file that is only in the working copy; extras may be missing."""
    code = (
        "import importlib, pkgutil, reflectory\n"
        "for m in pkgutil.walk_packages(reflectory.__path__, 'reflectory.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
    )
    call(python, "-c", code, **elsewhere)


def test_a_users_script_and_the_examples_type_check_against_what_is_installed(
    python, elsewhere, tmp_path
):
    (tmp_path / "mypy.ini").write_text("[mypy]\n", encoding="utf-8")  # not the project's settings
    words = ("--strict", "--config-file", tmp_path / "mypy.ini", "--python-executable", python)
    scripts = (SCRIPT, *sorted((ROOT / "examples").glob("*.py")))
    found = call(sys.executable, "-m", "mypy", *words, *scripts, **elsewhere)
    assert found.startswith("Success")
