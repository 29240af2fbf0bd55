"""What can be refused before JAX is imported, which takes seconds: names, folders, counts.

The library checks all of it again, and the rest.
"""

import ast
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from experiments import listing
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
    file = config.model.name.partition(".")[0]
    if ":" not in config.model.name and not (_LIBRARY / f"models/{file}.py").is_file():
        files = [path.stem for path in sorted((_LIBRARY / "models").glob("[a-z]*.py"))]
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
        check_one_of("task", task, [listed.name for listed in listing.tasks()])
    if str(workdir).startswith(_PRETRAINED):
        known = sorted(path.stem for path in (_LIBRARY / "pretrained").glob("*.npz"))
        return check_one_of("workdir", str(workdir), [_PRETRAINED + name for name in known])
    if not (workdir / "config.json").is_file():
        raise UserError(f"workdir {workdir} holds no run: it has no config.json")


def data_sets() -> Sequence[str]:
    """The keys of `memjax.data.sources.SPECS`; nothing is imported."""
    for node in ast.parse((_LIBRARY / "data/sources.py").read_text()).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "SPECS":
            assert isinstance(node.value, ast.Dict)
            return [ast.literal_eval(key) for key in node.value.keys if key is not None]
    raise AssertionError("SPECS is not there")
