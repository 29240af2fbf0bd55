"""One HTML page of a run, with all its figures inside: python -m experiments.report --workdir=DIR.

It holds the config, the learning curves, the pictures and every evaluation that has been made, and
is written to DIR/report.html. Several runs, --workdir=A,B --output=FILE.html, stand side by side.
Training and evaluation write a run's own page by themselves.
"""

from absl import flags

from experiments import cli, early
from memjax.errors import UserError

_WORKDIR = flags.DEFINE_list(
    "workdir",
    None,
    "Folder of the run, or several, A,B; each can be named: NAME=DIR.",
    required=True,
    allow_overwrite=False,
)
_OUTPUT = flags.DEFINE_string("output", "", "The page's file; by default DIR/report.html.")


def main() -> None:
    """Writes the page."""
    workdirs = cli.named_folders("workdir", _WORKDIR.value)
    for workdir in workdirs.values():
        early.check_run(workdir)
    from experiments import page

    if len(workdirs) > 1 and not _OUTPUT.value:
        raise UserError("output is missing: give the file of several runs' page, such as both.html")
    output = _OUTPUT.value or next(iter(workdirs.values())) / "report.html"
    print(page.write(workdirs, output))


if __name__ == "__main__":
    cli.run(main)
