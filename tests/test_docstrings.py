"""Every public name says what it is; where it takes arrays, of what shape; and where it is from."""

import ast
import re
from pathlib import Path

import pytest

_PACKAGE = Path(__file__).parents[1] / "memjax"
_INTERNAL = ("checks.py", "conditioning.py", "masking.py", "states.py")  # of memjax.memory
_FILES = sorted(
    p
    for p in _PACKAGE.rglob("*.py")
    if p.name not in _INTERNAL and not re.match(r"_[a-z]", p.name)  # underscored: internal too
)
_NO_SOURCE = ("__init__.py", "contract.py")  # of their own
# A shape: `[T, N]`, `[...]`, or a word for none.
_SHAPE = re.compile(r"`\[[^\]]*\]|\bscalar\b")
_SOURCE = re.compile(r"\b(?:19|20)\d\d\b|\b(?:VMA|KM|LRUA|DNC)\b")
_ARRAY = re.compile(r"\b(?:chex|np|jax)\.(?:Array|ndarray)\b|\bKanervaState\b")


def public(node, prefix=""):
    """Functions and classes whose names don't begin with an underscore, methods too."""
    for child in node.body:
        if not isinstance(child, ast.FunctionDef | ast.ClassDef) or child.name.startswith("_"):
            continue
        yield f"{prefix}{child.name}", child
        if isinstance(child, ast.ClassDef):
            yield from public(child, f"{prefix}{child.name}.")


def takes_arrays(node):
    if not isinstance(node, ast.FunctionDef):
        return False
    arguments = [*node.args.args, *node.args.kwonlyargs]
    return any(a.annotation and _ARRAY.search(ast.unparse(a.annotation)) for a in arguments)


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(_PACKAGE)))
def test_public_names_tell_shapes(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), path
    silent = []
    for name, node in public(tree):
        text = ast.get_docstring(node) or ""
        if not text or (takes_arrays(node) and not _SHAPE.search(text)):
            silent.append(name)
    assert not silent


@pytest.mark.parametrize("folder", ["memory", "estimators", "models"])
def test_public_modules_name_their_source(folder):
    paths = [p for p in _FILES if p.parent.name == folder and p.name not in _NO_SOURCE]
    silent = [
        p.name for p in paths if not _SOURCE.search(ast.get_docstring(ast.parse(p.read_text())))
    ]
    assert not silent
