"""The one exception for what its caller can mend, and the checks that most of it takes."""

import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import Any


class UserError(ValueError):
    """Bad input: one line that names the field, the value and what is allowed.

    Command lines print the message and exit with status 2; anything else is a bug and keeps its
    traceback.
    """


def one_line(error: Exception | str) -> str:
    """A message without its line breaks."""
    return " ".join(str(error).split())


def print_error(error: Exception | str) -> None:
    """How a command line tells of an error, before it ends with status 2."""
    print(f"error: {one_line(error)}", file=sys.stderr, flush=True)


def nearest(word: str, allowed: Iterable[str]) -> str:
    """The allowed word that was probably meant; "" if none is near."""
    return "".join(difflib.get_close_matches(word, list(allowed), n=1))


def did_you_mean(word: str) -> str:
    """The end of a message on a word that is not allowed, given what was probably meant."""
    return f"; did you mean {word}?" if word else ""


def check_at_least_one(**fields: Any) -> None:
    """Refuses numbers below 1, and those that no int32 holds.

    Raises:
      UserError: with the first such field.
    """
    for field, value in fields.items():
        if value < 1:
            raise UserError(f"{field} is {value}; it must be at least 1")
        if value >= 2**31:
            raise UserError(f"{field} is {value}; it must be below 2**31")


def check_one_of(field: str, value: Any, allowed: Sequence[str]) -> None:
    """Refuses a word that is not among `allowed`.

    Raises:
      UserError: with the field.
    """
    if value not in allowed:
        raise UserError(f"{field} is {value!r}; it must be one of {', '.join(allowed)}")
