"""Files that are written whole or not at all, and folders that can be written."""

import os
from pathlib import Path


def is_writable(folder: Path) -> bool:
    """Whether files can be made in `folder`, which may have to be made itself."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
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
