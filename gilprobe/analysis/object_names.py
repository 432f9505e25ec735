"""Names for hot objects: which of the objects that an expression touches it is, and where its name lives.

The samples of an object stand at several instructions. One at which a plain name is loaded takes a reference to the
object itself, so the object is what the name is bound to; an object that is sampled only where an element or attribute
is fetched, and where the result is stored, is what was fetched.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from gilprobe.analysis.frames import Site, expression_at, subject_of, text_of
from gilprobe.analysis.sources import source_lines
from gilprobe.recording.linetable import Position

MOST_NAME = 80
IMPORTED = "used by an import statement"
MOST_SOURCE = 2_000_000
# Of an object's samples: below this a site may be another object's that shares the cache line.
LEAST_NAME_SHARE = 0.05
MOST_COPIES = 4
CONTAINERS = frozenset({"list", "tuple", "dict", "set", "frozenset", "collections.deque"})
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True, slots=True)
class ObjectName:
    """text: the expression. kind: what it is bound to, as `module global`; empty where it is not known."""

    text: str
    kind: str
    function: str

    def __str__(self) -> str:
        return f"{self.text} in {self.function}" + (f" ({self.kind})" if self.kind else "")


def name_object(object_type: str, sites: Sequence[tuple[Site, float]]) -> ObjectName | None:
    """sites: positions with their share (0-1) of the object's samples, by falling share. None without the source."""
    if sites and (statement := _import_at(sites[0][0])):
        return ObjectName(statement, IMPORTED, sites[0][0].function)
    found = [(site, weight, _Place.of(site)) for site, weight in sites]
    known = [(site, weight, place) for site, weight, place in found if place is not None]
    loads = [
        (site, place)
        for site, weight, place in known
        if weight >= LEAST_NAME_SHARE and isinstance(place.expression, ast.Name) and not place.stored
    ]
    for site, place in (*loads, *((site, place) for site, _, place in known)):
        name = _named(object_type, site, place)
        if name is not None and len(name.text) <= MOST_NAME:
            return name
    return _from_segment(object_type, sites)


def _import_at(site: Site) -> str:
    """The import statement on its line. It names none of what it works on: sys.modules, the module and its spec."""
    source = source_lines(site.file)
    line = site.position.line
    text = source[line - 1].decode(errors="replace").strip() if 1 <= line <= len(source) else ""
    return text[:MOST_NAME] if text.startswith(("import ", "from ")) else ""


def self_of(method: ObjectName, name: ObjectName) -> ObjectName:
    """The object a hot bound method is bound to, where it is known only by the method's call."""
    if name.text == f"{method.text}()":
        return ObjectName(f"{method.text}.__self__", "what the bound method is bound to", name.function)
    return name


@dataclass(frozen=True, slots=True)
class _Place:
    """The expression of an instruction in its file's tree. stored: the value of an assignment whose target was run."""

    tree: _Tree
    expression: ast.expr
    stored: bool

    @classmethod
    def of(cls, site: Site) -> _Place | None:
        tree = _tree(site.file)
        expression = tree.expressions.get(_key(site.position)) if tree else None
        if tree is None or expression is None:
            return None
        value = tree.stored_value(expression)
        return cls(tree, value or expression, value is not None)


def _named(object_type: str, site: Site, place: _Place) -> ObjectName | None:
    expression = place.expression
    if isinstance(expression, ast.Subscript) and object_type in CONTAINERS and not place.stored:
        expression = expression.value
    if isinstance(expression, ast.Call) and isinstance(expression.func, ast.Attribute):
        # A method call touches the object it is called on; what it returns is seldom shared.
        expression = expression.func.value
    if isinstance(expression, ast.Name):
        text, kind = place.tree.binding(expression)
        return ObjectName(text, kind, site.function)
    if isinstance(expression, ast.Attribute):
        return ObjectName(text_of(expression), f"attribute of {_base(place.tree, expression.value)}", site.function)
    if isinstance(expression, ast.Subscript):
        return ObjectName(text_of(expression), f"element of {_base(place.tree, expression.value)}", site.function)
    if isinstance(expression, ast.Call):
        called = expression.func
        text = place.tree.binding(called)[0] if isinstance(called, ast.Name) else text_of(called)
        # What a bound method is bound to, an argument or the result: by the instruction alone these are not told apart.
        return ObjectName(f"{text}()", f"touched by the call of {_base(place.tree, called)}", site.function)
    return None


def _base(tree: _Tree, expression: ast.expr) -> str:
    if isinstance(expression, ast.Name):
        text, kind = tree.binding(expression)
        return f"{kind} {text}" if kind else text
    return text_of(expression)


def _from_segment(object_type: str, sites: Sequence[tuple[Site, float]]) -> ObjectName | None:
    """Where the file's tree does not have the instruction's position: from the text at that position alone."""
    for site, _ in sites:
        expression = expression_at(site.file, site.position)
        if expression is None:
            continue
        text = subject_of(expression) if object_type in CONTAINERS else text_of(expression)
        if text and len(text) <= MOST_NAME:
            return ObjectName(text, "", site.function)
    return None


def _key(position: Position) -> tuple[int, int, int, int]:
    return position.line, position.column, position.end_line, position.end_column


@lru_cache(maxsize=64)
def _tree(file: str) -> _Tree | None:
    source = b"\n".join(source_lines(file))
    if not 0 < len(source) <= MOST_SOURCE:
        return None
    try:
        return _Tree(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


class _Tree:
    """A source file's expressions by position, and where its names are bound."""

    def __init__(self, module: ast.Module) -> None:
        self._module = module
        self._parents: dict[ast.AST, ast.AST] = {}
        self.expressions: dict[tuple[int, int, int, int], ast.expr] = {}
        for node in ast.walk(module):
            for child in ast.iter_child_nodes(node):
                self._parents[child] = node
            if isinstance(node, ast.expr) and node.end_lineno is not None and node.end_col_offset is not None:
                self.expressions[node.lineno, node.col_offset, node.end_lineno, node.end_col_offset] = node

    def stored_value(self, target: ast.expr) -> ast.expr | None:
        """The expression assigned to `target`, if it is the target of a plain assignment."""
        parent = self._parents.get(target)
        if isinstance(parent, ast.Assign) and target in parent.targets:
            return parent.value
        if isinstance(parent, ast.AnnAssign | ast.NamedExpr) and target is parent.target:
            return parent.value
        return None

    def binding(self, name: ast.Name) -> tuple[str, str]:
        """(name, kind): a local that is only another name for something leads to that."""
        text, function = name.id, self._function(name)
        for _ in range(MOST_COPIES):
            if function is None or text not in _bound(function):
                break
            if text in _parameters(function):
                return text, "argument"
            copied = self._copied(function, text)
            if copied is None:
                return text, "local variable"
            if isinstance(copied, ast.Attribute | ast.Subscript):
                what = "attribute" if isinstance(copied, ast.Attribute) else "element"
                return text_of(copied), f"{what} of {_base(self, copied.value)}"
            text = copied.id
        return text, self._kind(function, text)

    def _kind(self, function: Function | None, text: str) -> str:
        own = function
        while function is not None:
            if text in _bound(function):
                return "local variable" if function is own else "closure variable"
            function = self._function(function)
        return "module global" if text in _names_stored(self._module.body) else "builtin"

    def _function(self, node: ast.AST) -> Function | None:
        parent = self._parents.get(node)
        while parent is not None and not isinstance(parent, Function):
            parent = self._parents.get(parent)
        return parent

    def _copied(self, function: Function, text: str) -> ast.Name | ast.Attribute | ast.Subscript | None:
        """What the local `text` is another name for: it is assigned once, from a name, an attribute or an element."""
        stores = [
            node
            for node in _own_nodes(function)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == text
        ]
        value = self.stored_value(stores[0]) if len(stores) == 1 else None
        return value if isinstance(value, ast.Name | ast.Attribute | ast.Subscript) else None


def _parameters(function: Function) -> set[str]:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return {argument.arg for argument in every if argument is not None}


def _bound(function: Function) -> set[str]:
    """Names local to the function."""
    elsewhere = {
        name for node in _own_nodes(function) if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names
    }
    body = [function.body] if isinstance(function, ast.Lambda) else function.body
    return (_parameters(function) | _names_stored(body)) - elsewhere


def _names_stored(body: Sequence[ast.AST]) -> set[str]:
    names: set[str] = set()
    for node in _nodes(body):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    return names


def _own_nodes(function: Function) -> Iterator[ast.AST]:
    return _nodes([function.body] if isinstance(function, ast.Lambda) else function.body)


def _nodes(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """All below `body` but what lies in functions and classes defined there."""
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Function | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)
