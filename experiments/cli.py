"""What the command lines share: errors of the user end in one clear line and exit status 2."""

import contextlib
import inspect
import logging
import os
import re
import sys
from ast import literal_eval
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags
from absl import logging as absl_logging

from memjax.errors import UserError, did_you_mean, nearest, one_line, print_error

_THREADS = flags.DEFINE_integer(
    "threads", None, "Threads of XLA on a CPU; by default one for each core.", lower_bound=1
)

_CONFIGS = Path(__file__).parent / "configs"
_CONFIG_ERROR = "Configuration is not available because of an earlier failure to load: "


def run(main: Callable[[], None]) -> None:
    """Parses the flags and runs `main`."""

    def checked_main(argv: Sequence[str]) -> None:
        _quiet_libraries()
        if _THREADS.value is not None:
            os.environ["NPROC"] = str(_THREADS.value)  # the size of the CPU client's pool
        with exit_on_user_error():
            if len(argv) > 1:
                raise UserError(f"unexpected argument {argv[1]!r}; flags begin with --")
            main()

    _show_log()
    app.run(checked_main, flags_parser=parse_flags)


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Prints a `UserError`, or what the system refuses, as one line and exits with status 2.

    Ctrl-C, where nothing waits for it, is one line and status 130.
    """
    try:
        yield
    except (UserError, OSError) as error:
        _exit(str(error))
    except KeyboardInterrupt:
        print_error("interrupted")
        sys.stdout.flush()
        os._exit(130)  # as shells have it; at once, for XLA may still compile in a thread
    except Exception as error:  # JAX has no classes of its own for these
        if "Unable to initialize backend" in str(error):  # JAX_PLATFORMS names what is not there
            _exit(str(error))
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        _exit(f"out of memory, smaller batches or models need less: {str(error)[:200]}")


def named_folders(flag: str, texts: Sequence[str]) -> dict[str, Path]:
    """Folders by name, from texts `DIR`, named as the folder, or `NAME=DIR`.

    Raises:
      UserError: two of one name.
    """
    folders = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        path = Path(folder if equals else text)
        folders[name if equals else path.absolute().name] = path
    if len(folders) < len(texts):
        raise UserError(f"{flag} is {','.join(texts)}; names must differ: give them as NAME=DIR")
    return folders


def last_step(workdir: Path) -> int:
    """That of the newest checkpoint; 0 if there is none. One cut short has no plain number."""
    names = [path.name for path in workdir.glob("checkpoints/*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def name_parts(fields: Mapping[str, Any]) -> list[str]:
    """FIELD-VALUE for each field of a config that differs: parts of a run's folder name."""
    return [f"{field.split('.')[-1]}-{value}" for field, value in fields.items()]


def _quiet_libraries() -> None:
    """Shows nothing of what logs through absl, such as Orbax, unless --verbosity is given.

    Orbax also logs tracebacks of the errors that it raises. And when one write of a checkpoint
    fails, TensorStore reports the other writes to an event loop that has ended, each with a
    traceback.
    """
    if not flags.FLAGS["verbosity"].present:
        absl_logging.set_verbosity(absl_logging.FATAL)
        sys.unraisablehook = _show_but_late_writes


def _show_but_late_writes(unraisable: Any) -> None:
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _show_log() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logger = logging.getLogger("memjax")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def parse_flags(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Sets the flags that are given, and returns the other arguments; ends at a wrong one."""
    try:
        arguments = values(argv)
        if "config" in values:
            values.config.to_dict()  # a file that could not be loaded says so at first use
        return arguments
    # ml_collections loads the config file and sets its fields while the flags are parsed.
    except SyntaxError as error:
        return _exit(f"{error.filename}, line {error.lineno}: {error.msg}")
    except (flags.Error, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        return _exit(explain(error))


def explain(error: Exception) -> str:
    """What `ml_collections` says of a config, in a user's words."""
    message = str(error).removeprefix(_CONFIG_ERROR)
    if missing := re.search(r"Flag (--\w+) must have a value other than None", message):
        return f"{missing[1]} is missing"
    if missing := re.search(r"No such file or directory: '(.+)'", message):
        path = Path(missing[1])
        found = [*_CONFIGS.glob("*.py"), *path.parent.glob("*.py")]
        there = {path.stem: os.path.relpath(path) for path in found}
        near = did_you_mean(there.get(nearest(path.stem, there), ""))
        return f"config {path} is not there{near}"
    told: Any = error
    while isinstance(told, Exception) and told.args:
        told = told.args[0]
    unknown = re.fullmatch(r"'(\w+)'(?: Did you mean \"(\w+)\" .*)?", one_line(str(told)))
    if unknown or isinstance(error, KeyError):
        field, near = unknown.groups() if unknown else (str(told), "")
        return f"config has no field {field}{did_you_mean(near or '')}"
    return message


def _exit(message: str):
    print_error(message)
    sys.exit(2)


def parse_options(evaluate: Callable, options: Sequence[str]) -> dict[str, Any]:
    """The keyword arguments of `evaluate` from strings NAME=VALUE.

    VALUE is a Python literal; for an option that is a text it is taken as it is.
    """
    parameters = inspect.signature(evaluate).parameters
    known = [name for name in parameters if name != "run"]
    parsed: dict[str, Any] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or name not in known:
            raise UserError(
                f"option is {option!r}; it must be NAME=VALUE, NAME: {', '.join(known)}"
            )
        is_text = isinstance(parameters[name].default, str)
        try:
            parsed[name] = value if is_text else literal_eval(value)
        except (ValueError, SyntaxError) as error:
            raise UserError(f"option {name} is {value!r}; it must be a number or a list") from error
    return parsed
