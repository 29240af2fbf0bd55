"""What users get wrong, and the words of the one line that answers each of it.

`answers` gives each command a process of its own, forked from one that has imported JAX already.
"""

import json
import os
import runpy
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_CONFIG = "--config=tests/robustness/config.py --config.dataset.binarization=threshold"
_TRAIN = f"train --workdir=NEW {_CONFIG}"
_EVALUATE = "evaluate --workdir=RUN"
_SWEEP = "sweep --workdir=NEW --config=tests/robustness/config.py"

# NEW, GONE and OTHER are not there; RUN is a run that was never saved, BAD one that can't be read.
MISTAKES = {
    "train --config=tests/robustness/config.py": "--workdir is missing",
    "train --workdir=NEW": "--config is missing",
    "train --workdir=NEW --config=nothing.py": "config nothing.py is not there",
    "train --workdir=NEW --config=vae_digit": "did you mean experiments/configs/vae_digits.py?",
    "train --workdir=NEW --config=README.md": "README.md, line ",
    "train --workdir=NEW --config=setup.py": "config setup.py is not there",
    f"{_TRAIN} --config.training.num_stepz=1": "no field num_stepz; did you mean num_steps?",
    f"{_TRAIN} --config.trainign.num_steps=1": "no field trainign; did you mean training?",
    f"{_TRAIN} --config.nothing=1": "no field nothing",
    f"{_TRAIN} --config.training.num_steps=many": "many",
    f"{_TRAIN} --config.training.num_steps=0": "num_steps is 0; it must be at least 1",
    f"{_TRAIN} --config.training.log_every=3": "log_every",
    f"{_TRAIN} --config.optimizer.learning_rate=-1.0": "learning_rate is -1.0",
    f"{_TRAIN} --config.optimizer.learning_rate=nan": "learning_rate is nan",
    f"{_TRAIN} --config.optimizer.name=adamm": "optimizer.name is 'adamm'",
    f"{_TRAIN} --config.model.name=vae.VAEE": "vae.VAEE",
    f"{_TRAIN} --config.episodes.batch_size=0": "batch_size is 0; it must be at least 1",
    f"{_TRAIN} --config.episodes.name=fewshot": "episodes.name is 'fewshot'",
    f"{_TRAIN} --config.dataset.name=mnits": "'mnits'",
    f"{_TRAIN} --config.dataset.name=mnist": "mnist is not in",
    f"{_TRAIN} --config.dataset.binarization=off": "binarization is 'off'",
    f"{_TRAIN} --steps=1": "steps",
    f"{_TRAIN} extra": "unexpected argument 'extra'",
    f"train --workdir=OTHER {_CONFIG} --init_from=GONE": "init_from is GONE",
    f"{_TRAIN} --num_processes=2": "--coordinator, --process_id missing",
    f"train --workdir=RUN {_CONFIG}": "another config's run",
    f"train --workdir=README.md {_CONFIG}": "README.md can't be written",
    _EVALUATE: "--task is missing",
    f"{_EVALUATE} --task=recal": "task is 'recal'",
    f"{_EVALUATE} --task=recall --option=num_slots": "NAME=VALUE, NAME: num_slots",
    f"{_EVALUATE} --task=recall --option=slots=3": "num_slots, num_memories, seed",
    f"{_EVALUATE} --task=recall --option=num_slots=many": "must be a number or a list",
    f"{_EVALUATE} --task=recall": "RUN holds no checkpoint; train it first",
    "evaluate --workdir=BAD --task=recall": "none of the checkpoints [8] in BAD",
    "evaluate --workdir=NEW --task=recall": "NEW holds no run: it has no config.json",
    f"{_SWEEP} --vary=seed": "vary is 'seed'; it must be FIELD=V1,V2,...",
    f"{_SWEEP} --vary=sead=1": "did you mean seed?",
    f"{_SWEEP} --vary=seed=1 --vary=seed=2": "vary is seed=1 and seed=2; it must",
    f"{_SWEEP} --vary=seed=1,1": "vary gives the run 'seed-1' twice",
    f"{_SWEEP} --vary=seed=1,two": "seed=two",
    "report --workdir=RUN,b=RUN": "output is missing",
    "report --workdir=RUN,RUN --output=both.html": "names must differ",
    "report --workdir=RUN --output=page": "must be a file that ends in .html",
    "report --workdir=BAD": "eval_recall.json can't be read",
    "report --workdir=NEW": "holds no run",
    "report --workdir=RUN --workdir=RUN": "already defined",
    "compare --workdirs=RUN": "--output is missing",
    "compare --workdirs=RUN --output=NEW": "was never evaluated in training",
    "compare --workdirs=RUN --output=NEW --task=recall": "has no eval_recall.json",
    "playground --workdir=NEW": "holds no run",
    "playground --workdir=pretrained:kanerva": "one of pretrained:kanerva_digits_denoise",
    "playground --port=65536": "port=65536",
    "pretrained --workdir=NEW --name=a": "holds no run",
    "pretrained --workdir=RUN": "name is ''",
    "pretrained --workdir=RUN --name=a --task=recal": "task is 'recal'",
    "figures --name=recal": "recal",
    "figures --name=recall --runs=NEW": "recall.png does not exist",
    "reproduce --name=vma --dry_run": "vma_recall",
    "reproduce --name=vma_recall --results=README.md": "README.md is another file",
    "results --file=nothing.md": "nothing.md does not exist",
    "collapse --workdir=NEW --num_steps=0": "num_steps is 0",
    "quickstart --workdir=README.md": "README.md/vae_digits can't be written",
}


def answers(folder: Path) -> dict[str, tuple[int, str, float]]:
    """For each mistake the exit status, what went to stderr, and the seconds of work."""
    found = {}
    for i, mistake in enumerate(MISTAKES):
        path = folder / f"{i}.txt"
        command, *arguments = mistake.split()
        for name in ("NEW", "GONE", "OTHER", "RUN", "BAD"):
            arguments = [argument.replace(name, str(folder / name)) for argument in arguments]
        if not (child := os.fork()):
            _become(f"experiments.{command}", arguments, path)
        _, status, usage = os.wait4(child, 0)
        text = path.read_text().replace(f"{folder}/", "")
        found[mistake] = os.waitstatus_to_exitcode(status), text, usage.ru_utime + usage.ru_stime
    return found


def _become(module: str, arguments: list[str], path: Path) -> None:
    status = 1
    try:
        with path.open("w") as sys.stderr:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(sys.stderr.fileno(), 2)
            sys.argv = [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    finally:
        os._exit(status)


def prepare(folder: Path) -> None:
    """Makes the runs, and imports what takes long."""
    import sklearn.datasets  # noqa: F401

    import memjax.evaluation
    import memjax.plotting  # noqa: F401
    from tests.robustness.config import get_config

    for name in ("RUN", "BAD"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(get_config().to_json())
    (folder / "BAD/checkpoints/8").mkdir(parents=True)
    (folder / "BAD/eval_recall.json").write_text("{")


if __name__ == "__main__":
    work = Path(sys.argv[1])
    prepare(work)
    (work / "answers.json").write_text(json.dumps(answers(work)))
