"""A run's folder: one config, one run; made before the first step, checked on every start."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from memjax import files
from memjax.errors import UserError

_ABOUT = "about.json"

# What may change between two starts of the same run.
_FREE_FIELDS = (
    "data_dir",
    "training.num_steps",
    "training.skip_nonfinite",
    "training.steps_per_call",  # of earlier versions
    "init_from",
)


@contextlib.contextmanager
def open_workdir(workdir: str | Path, config: ConfigDict) -> Iterator[Path]:
    """Creates `workdir` with its `config.json`, or checks that it is this config's run; locks it.

    The lock ends with the context or the process, however that ends.

    Raises:
      UserError: the folder can't be written, is in use, or holds another config's run.
    """
    check_workdir(workdir, config)
    path = Path(workdir).absolute()
    path.mkdir(parents=True, exist_ok=True)
    with files.lock(path / ".lock", f"workdir {workdir} is in use by another run"):
        check_workdir(workdir, config)
        files.write_text(path / "config.json", config.to_json(indent=2) + "\n")
        yield path


def check_workdir(workdir: str | Path, config: ConfigDict) -> None:
    """Says early, before anything is compiled, what `open_workdir` would refuse.

    Raises:
      UserError: the folder can't be written, or holds another config's run.
    """
    path = Path(workdir).absolute()
    if not files.is_writable(path):
        raise UserError(f"workdir {workdir} can't be written: choose another folder")
    if (path / "config.json").exists():
        _check_same(load_config(path), config, path)


def load_config(workdir: str | Path) -> ConfigDict:
    """The config of the run in `workdir`.

    Raises:
      UserError: there is none, or it can't be read.
    """
    path = Path(workdir) / "config.json"
    try:
        fields = json.loads(path.read_text())
        if not isinstance(fields, dict):
            raise ValueError("it is not an object")
        return ConfigDict(fields, convert_dict=True)
    except FileNotFoundError as error:
        raise UserError(f"workdir {workdir} holds no run: it has no config.json") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read: {error}") from error


def write_about(workdir: Path, about: Mapping[str, Any]) -> None:
    """Writes `about.json`: what no config says of the run's newest start."""
    files.write_text(workdir / _ABOUT, json.dumps(about, indent=2) + "\n")


def read_about(workdir: str | Path) -> dict[str, Any]:
    """What `about.json` says; nothing where there is none, or it can't be read."""
    try:
        about = json.loads((Path(workdir) / _ABOUT).read_text())
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _check_same(old: ConfigDict, new: ConfigDict, path: Path) -> None:
    old_fields, new_fields = flatten(old.to_dict()), flatten(json.loads(new.to_json()))
    for field in sorted(old_fields.keys() | new_fields.keys()):
        before, now = old_fields.get(field), new_fields.get(field)
        if before != now and field not in _FREE_FIELDS:
            raise UserError(
                f"workdir {path} holds another config's run: its {field} is {before!r}, "
                f"this config's is {now!r}; choose another workdir"
            )


def flatten(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields of fields, by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
