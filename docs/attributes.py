"""What stands below each key of a configuration, read from its source.

Pydantic can do this for each model when it is made (`use_attribute_docstrings`), but then every process that imports
the configuration parses its source once more: a twentieth of a second, for words that only the pages need.
"""

from __future__ import annotations

import ast
import inspect
import textwrap

from pydantic import BaseModel


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Text by field, of the class itself and of those that it inherits from; the nearest one counts."""
    found: dict[str, str] = {}
    for cls in model.__mro__:
        if issubclass(cls, BaseModel) and cls is not BaseModel:
            found = _own(cls) | found
    return found


def _own(cls: type[BaseModel]) -> dict[str, str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    told: dict[str, str] = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            told[field.target.id] = " ".join(inspect.cleandoc(below.value.value).split())
    return told
