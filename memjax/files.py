"""Files that are written whole or not at all, and folders that can be written."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from memjax.errors import UserError


def is_writable(folder: Path) -> bool:
    """Whether files can be made in `folder`, which may have to be made itself."""
    try:
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    except PermissionError:  # not even to be looked into
        return False
    # The system lets an administrator write everywhere; a mode that lets nobody is meant.
    mode_allows = existing.stat().st_mode & 0o222
    return bool(mode_allows) and existing.is_dir() and os.access(existing, os.W_OK)


def write_text(path: Path, text: str) -> None:
    """Writes `text` beside `path`, then renames: a reader sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def lock(path: Path, refusal: str) -> Iterator[None]:
    """Holds a lock on the file `path`, which stays; the system frees it if the process is killed.

    Where a file system knows no locks, nothing is held.

    Raises:
      UserError: `refusal`, where another holds it.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(refusal) from error
        except OSError:
            pass
        yield
