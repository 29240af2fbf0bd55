"""Small changes to a source file: Cosmic Ray's operators, and one for calls."""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

# Of Cosmic Ray's operators those that make programs which may still run.
_OPERATORS = re.compile(
    r"core/(NumberReplacer|AddNot|Replace(True|False|And|Or)With\w+|ZeroIterationForLoop"
    r"|ReplaceUnaryOperator_Delete_\w+"
    r"|ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|Mul_Add|FloorDiv_Mul|Mod_Mul|Pow_Mul"
    r"|BitAnd_BitOr|BitOr_BitAnd)"
    r"|ReplaceComparisonOperator_(Lt_LtE|LtE_Lt|Gt_GtE|GtE_Gt|Lt_Gt|Gt_Lt|LtE_GtE|GtE_LtE|Eq_NotEq"
    r"|NotEq_Eq|Is_IsNot|IsNot_Is))"
)
# Most of the arithmetic here is calls.
_CALLS = {
    "all": "any",
    "any": "all",
    "argmax": "argmin",
    "cosh": "sinh",
    "cummax": "cummin",
    "exp": "expm1",
    "log": "log1p",
    "logsumexp": "max",
    "max": "min",
    "maximum": "minimum",
    "mean": "sum",
    "min": "max",
    "minimum": "maximum",
    "ones": "zeros",
    "ones_like": "zeros_like",
    "prod": "sum",
    "sqrt": "square",
    "square": "abs",
    "sum": "mean",
    "zeros": "ones",
    "zeros_like": "ones_like",
}


class Mutant(NamedTuple):
    """A source file with one change."""

    line: int
    what: str
    code: str


def make(code: str) -> Iterator[Mutant]:
    """All mutants of a source file, but for those of its annotations."""
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code

    lines, types = code.splitlines(), list(_annotations(code))
    operators = {name: plugins.get_operator(name) for name in plugins.operator_names()}
    operators = {name: cls for name, cls in operators.items() if _OPERATORS.fullmatch(name)}
    for name, cls in (operators | {"call": _call_replacer()}).items():
        positions = [
            place[0]
            for node in ast_nodes(get_ast(code))
            for place in cls().mutation_positions(node)
        ]
        for occurrence, place in enumerate(positions):
            mutated = mutate_code(code, cls(), occurrence)
            is_type = any(begin <= place < end for begin, end in types)
            is_product = not lines[place[0] - 1].startswith("*,", place[1])  # nor a bare star
            if mutated != code and is_product and not is_type:
                yield Mutant(place[0], name.rpartition("/")[2], mutated)


def _annotations(code: str) -> Iterator[tuple]:
    """Where they begin and end."""
    for node in ast.walk(ast.parse(code)):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if part is not None:
                yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


def _call_replacer():
    """`_CALLS` as an operator of Cosmic Ray."""
    from cosmic_ray.operators.operator import Operator

    class CallReplacer(Operator):
        def mutation_positions(self, node):
            if node.type == "name" and node.value in _CALLS:
                before, after = node.get_previous_leaf(), node.get_next_leaf()
                if before is not None and (before.value, after.value) == (".", "("):
                    yield node.start_pos, node.end_pos

        def mutate(self, node, index):
            node.value = _CALLS[node.value]
            return node

        @classmethod
        def examples(cls):
            return ()

    return CallReplacer
