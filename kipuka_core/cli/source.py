"""What the source of a class says of it: fields and methods with their docstrings, for the generated pages."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from dataclasses import dataclass

_ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")


@dataclass(frozen=True, slots=True)
class FieldText:
    """A field or class variable; ``default`` is empty where there is none."""

    name: str
    annotation: str
    default: str
    about: str


@dataclass(frozen=True, slots=True)
class MethodText:
    """A public method."""

    signature: str
    about: str


@dataclass(frozen=True, slots=True)
class ClassText:
    """A class as its reader sees it."""

    name: str
    about: str
    fields: tuple[FieldText, ...]
    methods: tuple[MethodText, ...]


def class_text(cls: type) -> ClassText:
    """Read a class from its source, in the order in which it stands there."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)  # noqa: S101  # the source of a class is a class
    fields: list[FieldText] = []
    methods: list[MethodText] = []
    for statement, after in zip(tree.body, [*tree.body[1:], ast.Pass()], strict=True):
        if isinstance(statement, ast.AnnAssign | ast.Assign):
            fields.extend(_fields(statement, after))
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and not statement.name.startswith("_"):
            methods.append(MethodText(_signature(statement), markdown(ast.get_docstring(statement) or "")))
    return ClassText(cls.__name__, markdown(inspect.getdoc(cls) or ""), tuple(fields), tuple(methods))


def markdown(docstring: str, *, line: bool = False) -> str:
    """A docstring as Markdown; with ``line``, for a table's cell."""
    text = _ROLE.sub(r"`\1`", docstring).replace("``", "`")
    return text.replace("\n\n", " ").replace("\n", " ").replace("|", "\\|") if line else text


def _fields(statement: ast.AnnAssign | ast.Assign, after: ast.stmt) -> list[FieldText]:
    target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
    if not isinstance(target, ast.Name) or target.id.startswith("_") or target.id == "model_config":
        return []
    about = ""
    if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
        about = markdown(inspect.cleandoc(after.value.value), line=True)
    annotation = ast.unparse(statement.annotation) if isinstance(statement, ast.AnnAssign) else ""
    return [FieldText(target.id, annotation, _default(statement.value), about)]


def _default(value: ast.expr | None) -> str:
    if value is None:
        return ""
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "field":
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in value.keywords}
        return given.get("default", "") or (f"{given['default_factory']}()" if "default_factory" in given else "")
    return ast.unparse(value)


def _signature(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    kind = "async " if isinstance(function, ast.AsyncFunctionDef) else ""
    if any(ast.unparse(each) == "property" for each in function.decorator_list):
        return f"{function.name} -> {ast.unparse(function.returns)}" if function.returns else function.name
    arguments = ast.unparse(function.args).removeprefix("self").removeprefix(", ")
    returns = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    return f"{kind}{function.name}({arguments}){returns}"
