"""What can be refused before JAX is imported, which takes seconds: names, folders, counts.

The library checks all of it again, and the rest.
"""

import re
from pathlib import Path

from ml_collections import ConfigDict

from memjax.errors import UserError, check_at_least_one, check_one_of, did_you_mean, nearest

_LIBRARY = Path(__file__).parents[1] / "memjax"
_PRETRAINED = "pretrained:"  # as `memjax.evaluation.pretrained.PREFIX`
_COUNTS = ("num_steps", "log_every", "eval_every", "checkpoint_every")


def check_config(config: ConfigDict, workdir: Path) -> None:
    """Refuses names of no data set or model, and counts below 1; and a start that is not there.

    What has been begun in `workdir` does not need its start any more.

    Raises:
      UserError: it names the field.
    """
    is_begun = (workdir / "checkpoints").is_dir()
    if config.init_from and not is_begun and not Path(config.init_from, "checkpoints").is_dir():
        raise UserError(f"init_from is {config.init_from}; it must be the folder of a trained run")
    name, known = config.dataset.name, data_sets()
    if not (name in known or name.startswith("tfds:") or Path(name).expanduser().exists()):
        near = did_you_mean(nearest(name, known))
        raise UserError(
            f"there is no data set {name!r}: choose from {', '.join(known)}, a path to a "
            f".npy or .npz file or a folder of images, or tfds:NAME{near}"
        )
    file, files = config.model.name.partition(".")[0], _names("models/[a-z]*.py")
    if ":" not in config.model.name and file not in files:
        near = did_you_mean(nearest(file, files))
        raise UserError(f"model.name is {config.model.name!r}; memjax.models has no {file}{near}")
    for count in _COUNTS:
        check_at_least_one(**{count: config.training[count]})


def check_run(workdir: Path, task: str | None = None) -> None:
    """Refuses a folder that holds no run, and names of no evaluation or pretrained model.

    Raises:
      UserError: it names the argument.
    """
    if task is not None:
        check_one_of("task", task, _names("evaluation/tasks/[a-z]*.py"))
    if str(workdir).startswith(_PRETRAINED):
        known = [_PRETRAINED + name for name in _names("pretrained/*.npz")]
        return check_one_of("workdir", str(workdir), known)
    if not (workdir / "config.json").is_file():
        raise UserError(f"workdir {workdir} holds no run: it has no config.json")


def _names(pattern: str) -> list[str]:
    return sorted(path.stem for path in _LIBRARY.glob(pattern))


def data_sets() -> list[str]:
    """The keys of `memjax.data.sources.SPECS`; nothing is imported."""
    return re.findall(r'^    "(\w+)": \w+\(', (_LIBRARY / "data/sources.py").read_text(), re.M)
