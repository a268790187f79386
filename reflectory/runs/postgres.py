"""Where each loop stands, kept in a PostgreSQL database that many runs may share.

LangGraph's own saver writes; what is added here is what several runs need: each
run directory has threads of its own, errors of the database are errors of this
package, and no message holds a password. Needs ``reflectory[postgres]``, which is
imported when it is used.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from reflectory.config.checkpoints import ENVIRONMENT, SCHEMES, without_passwords
from reflectory.errors import StorageError, UserError
from reflectory.runs.files import storage_errors, write_atomic
from reflectory.types import SCHEMA_VERSION

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

NAME_FILE = "checkpoints.name"
"""File of a run directory with the name of its threads in a shared database."""

CONNECT_SECONDS = 20.0
"""How long to try to reach the server before a run is not begun, or stopped."""

_TURN_SECONDS = 0.1
_CONNECTIONS = 2
_NAME = re.compile(r"[0-9a-f]{16}")
_REMEDY = "start the server or mend the address, then run the same command again; it goes on"


def address_of(setting: str) -> str:
    """Return the address that a configuration names, read from the environment if it says so.

    Args:
        setting: ``postgresql://...``, or ``env:NAME`` for the value of a variable.

    Raises:
        UserError: The variable is not set or holds no such address. The message
            does not repeat what it holds.
    """
    if not setting.startswith(ENVIRONMENT):
        return setting
    name = setting.removeprefix(ENVIRONMENT)
    address = os.environ.get(name, "").strip()
    if not address.startswith(SCHEMES):
        what = "holds no PostgreSQL address" if address else "is not set"
        raise UserError(
            f"checkpoints are to go where the variable {name} says, and it {what}",
            hint=f"export {name}=postgresql://USER:PASSWORD@HOST/DATABASE",
        )
    return address


def thread_prefix(folder: Path) -> str:
    """Return what the names of a run's threads begin with, the same whenever it resumes.

    A random name in the folder, not its path: a folder may be moved, and another
    run may come to lie where one was deleted. The schema of the records is part of
    it, so a version that cannot read a checkpoint does not see it and begins the
    unfinished loops again, on recorded calls.

    Args:
        folder: The run directory; the name is made when it has none.

    Raises:
        StorageError: The file cannot be read or written.
    """
    file = folder / NAME_FILE
    with storage_errors(file, "read"):
        name = file.read_text(encoding="ascii", errors="replace").strip() if file.exists() else ""
    if not _NAME.fullmatch(name):
        # New, or torn by a power cut: loops begin again and no model is asked twice.
        name = secrets.token_hex(8)
        write_atomic(file, name + "\n")
    return f"reflectory-{SCHEMA_VERSION}-{name}-"


@contextmanager
def postgres_errors(address: str) -> Iterator[None]:
    """Turn errors of the database into errors of this package, without the password.

    Args:
        address: Where the database is, for the message.

    Raises:
        UserError: A text holds what PostgreSQL cannot store (the character NUL).
        StorageError: The server cannot be reached, is full, or refuses.
    """
    import psycopg
    import psycopg_pool

    try:
        yield
    except psycopg.DataError as error:
        raise UserError(
            f"PostgreSQL cannot store what this loop holds: {_first_line(error)}",
            hint="take the character NUL out of the instruction, or keep checkpoints in SQLite",
        ) from error
    except (psycopg.Error, psycopg_pool.PoolTimeout, psycopg_pool.PoolClosed) as error:
        raise StorageError(
            f"cannot keep checkpoints in {without_passwords(address)}: {_first_line(error)}",
            hint=_REMEDY,
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return without_passwords(lines[0]) if lines else type(error).__name__


@asynccontextmanager
async def open_postgres(setting: str, prefix: str) -> AsyncIterator[BaseCheckpointSaver[str]]:
    """Open the checkpoints of one run in a PostgreSQL database, for an ``async with``.

    The tables are made when they are not there; the user of the address may make
    tables. A connection that the server closed is replaced before it is used.

    Args:
        setting: ``postgresql://...`` or ``env:NAME``.
        prefix: What the run's threads begin with, from :func:`thread_prefix`.

    Yields:
        A saver to compile a graph with, which sees the threads of this run alone.

    Raises:
        UserError: The extra ``postgres`` is not installed, or the address is none.
        StorageError: The server cannot be reached or refuses.
    """
    address = address_of(setting)
    try:
        import psycopg
        from psycopg.rows import dict_row
        from psycopg_pool import AsyncConnectionPool
    except ImportError as error:
        raise UserError(
            "checkpoints in PostgreSQL need libraries that are not installed",
            hint="pip install 'reflectory[postgres]'",
        ) from error
    with postgres_errors(address):
        try:
            # A pool would go on trying in the background where the address is wrong.
            probe = await psycopg.AsyncConnection.connect(
                address, connect_timeout=int(CONNECT_SECONDS)
            )
        except psycopg.ProgrammingError as error:
            raise UserError(
                f"the address of the checkpoints is none: {_first_line(error)}",
                hint="postgresql://USER@HOST/DATABASE, the password in PGPASSWORD or ~/.pgpass",
            ) from error
        await probe.close()
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            address,
            min_size=1,
            max_size=_CONNECTIONS,
            timeout=CONNECT_SECONDS,
            kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
            check=AsyncConnectionPool.check_connection,
            open=False,
        )
        async with pool:
            saver = _saver_class()(pool, prefix, address)
            await _set_up(saver, pool)
            yield saver


async def _set_up(saver: Any, pool: Any) -> None:
    """Make the tables; two runs may begin at once, so one waits for the other.

    It asks again and again and does not wait within a statement: LangGraph builds its indexes
    concurrently, which waits for every statement that is under way, this one too.
    """
    async with pool.connection() as connection:
        lock = int.from_bytes(b"reflect", "big")
        while True:
            asked = await connection.execute("SELECT pg_try_advisory_lock(%s) AS ours", (lock,))
            if (await asked.fetchone())["ours"]:
                break
            await asyncio.sleep(_TURN_SECONDS)
        try:
            await saver.setup()
        finally:
            await connection.execute("SELECT pg_advisory_unlock(%s)", (lock,))


def _saver_class() -> type[Any]:
    """Return LangGraph's saver with threads of one run; imported when it is needed."""
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

    from reflectory.runs.checkpoints import make_serializer

    class RunSaver(AsyncPostgresSaver):
        """Names each thread with the run's prefix in the database, and without it outside."""

        def __init__(self, pool: Any, prefix: str, address: str) -> None:
            super().__init__(pool, serde=make_serializer())
            self._prefix = prefix
            self._address = address
            self._turn = asyncio.Lock()
            self._lost: StorageError | None = None

        async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
            async with self._reachable():
                found = await super().aget_tuple(self._inside(config))
            return None if found is None else self._outside(found)

        async def alist(
            self,
            config: RunnableConfig | None,
            *,
            filter: dict[str, Any] | None = None,
            before: RunnableConfig | None = None,
            limit: int | None = None,
        ) -> AsyncIterator[CheckpointTuple]:
            if config is None:
                raise NotImplementedError("name a thread: others' runs are in this database too")
            inside = self._inside(config)
            async with self._reachable():
                pages = super().alist(inside, filter=filter, before=before, limit=limit)
                found = [self._outside(page) async for page in pages]
            for page in found:
                yield page

        async def aput(
            self, config: RunnableConfig, checkpoint: Any, metadata: Any, new_versions: Any
        ) -> RunnableConfig:
            inside = self._inside(config)
            async with self._reachable():
                saved = await super().aput(inside, checkpoint, metadata, new_versions)
            return self._renamed(saved, config["configurable"]["thread_id"])

        async def aput_writes(
            self,
            config: RunnableConfig,
            writes: Sequence[tuple[str, Any]],
            task_id: str,
            task_path: str = "",
        ) -> None:
            async with self._reachable():
                await super().aput_writes(self._inside(config), writes, task_id, task_path)

        async def adelete_thread(self, thread_id: str) -> None:
            async with self._reachable():
                await super().adelete_thread(self._prefix + thread_id)

        @asynccontextmanager
        async def _reachable(self) -> AsyncIterator[None]:
            """Take a turn, as LangGraph's saver does; when one has waited in vain, none waits."""
            async with self._turn:
                if self._lost is not None:
                    raise StorageError(self._lost.message, hint=self._lost.hint)
                try:
                    with postgres_errors(self._address):
                        yield
                except StorageError as error:
                    self._lost = error
                    raise

        def _inside(self, config: RunnableConfig) -> RunnableConfig:
            return self._renamed(config, self._prefix + config["configurable"]["thread_id"])

        def _outside(self, found: CheckpointTuple) -> CheckpointTuple:
            name = found.config["configurable"]["thread_id"].removeprefix(self._prefix)
            parent = found.parent_config
            return found._replace(
                config=self._renamed(found.config, name),
                parent_config=None if parent is None else self._renamed(parent, name),
            )

        @staticmethod
        def _renamed(config: RunnableConfig, name: str) -> RunnableConfig:
            renamed = {**config, "configurable": {**config["configurable"], "thread_id": name}}
            return cast("RunnableConfig", renamed)

    return RunSaver
