"""A call cache that several runs have in common: what one of them asked, none asks again.

Each run keeps in its own directory what it used, whoever asked for it first, so that
it can be read, traced and resumed alone. The shared cache is a file of the same kind
in a folder of its own: ``reflectory cache`` shows and prunes it.

Several processes on one machine may use it at once. SQLite's log is shared memory
between them, which a network file system does not have: there the file would break,
so such folders are refused.
"""

from __future__ import annotations

from pathlib import Path

from reflectory.errors import RunDirectoryError
from reflectory.runs.call_cache import CallCache
from reflectory.runs.files import storage_errors

FILE_NAME = "calls.sqlite"
_NETWORK = frozenset(
    {
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.ceph",
        "fuse.glusterfs",
        "fuse.sshfs",
        "fuse.s3fs",
        "fuse.gcsfuse",
        "gpfs",
        "lustre",
        "nfs",
        "nfs4",
        "smb2",
        "smb3",
        "smbfs",
    }
)


def open_shared(folder: str | Path, run: Path | None = None) -> CallCache:
    """Open the call cache in a shared folder.

    Args:
        folder: The folder; made when it is not there.
        run: The run directory that uses it, where there is one.

    Raises:
        RunDirectoryError: It is a run directory, the file is some other database, or
            the folder is on a network file system.
        StorageError: It cannot be written.
        IntegrityError: The file in it is damaged.
    """
    place = Path(folder).expanduser().resolve()
    if (run is not None and place == run.resolve()) or (place / "manifest.json").exists():
        raise RunDirectoryError(
            f"cache: {place} is a run directory, whose calls are counted as its own",
            hint="choose a folder that holds nothing else",
        )
    with storage_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    kind = network_of(place)
    if kind is not None:
        raise RunDirectoryError(
            f"cache: {place} is on a network file system ({kind}), where SQLite's file would break",
            hint="choose a folder on a disk of this machine; runs on several machines share "
            "their calls with --engine ray",
        )
    return CallCache(place / FILE_NAME)


def network_of(place: Path) -> str | None:
    """Return the kind of the network file system that a folder is on; ``None`` for a disk.

    Args:
        place: An absolute path without links.
    """
    import psutil

    nearest, kind = -1, ""
    for mounted in psutil.disk_partitions(all=True):
        point = Path(mounted.mountpoint)
        # Of two at one place the later one lies over the other.
        if place.is_relative_to(point) and len(point.parts) >= nearest:
            nearest, kind = len(point.parts), mounted.fstype.lower()
    return kind if kind in _NETWORK else None
