"""Which instructions of which code are change points: the accesses to what threads can share.

A point lies *before* each such instruction. Left out is only what cannot matter: a read of an attribute that nothing
under test stores outside a constructor, of a global that nothing rebinds, the look-up of a method, and a call whose
callee was read just before by a point of its own.
"""

from __future__ import annotations

import ast
import builtins
import collections
import dis
import itertools
import linecache
import os
import sys
import sysconfig
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any

_WRITES = {"STORE_ATTR", "DELETE_ATTR", "STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE", "STORE_GLOBAL", "DELETE_GLOBAL",
           "STORE_DEREF", "DELETE_DEREF"}  # fmt: skip
_READS = {"LOAD_ATTR", "LOAD_METHOD", "BINARY_SUBSCR", "BINARY_SLICE", "LOAD_GLOBAL", "LOAD_DEREF", "LOAD_CLASSDEREF",
          "LOAD_FROM_DICT_OR_DEREF", "CONTAINS_OP", "FOR_ITER", "GET_ITER", "UNPACK_SEQUENCE", "LIST_EXTEND",
          "SET_UPDATE", "DICT_UPDATE", "DICT_MERGE"}  # fmt: skip
_CALLS = {"CALL", "CALL_KW", "CALL_FUNCTION_EX"}
_BUILT_IN = {
    name
    for kind in (list, dict, set, frozenset, str, bytes, bytearray, tuple, int, float, collections.deque,
                 collections.OrderedDict, collections.Counter, memoryview)
    for name in dir(kind)
}  # fmt: skip
_PURE = {"range", "isinstance", "issubclass", "print", "int", "float", "bool", "id", "type", "abs", "callable", "super",
         "object", "Exception", "ValueError", "KeyError", "RuntimeError", "AssertionError", "TypeError", "chr", "ord",
         "hash", "round", "divmod", "pow", "TimeoutError", "IndexError", "slice", "property"}  # fmt: skip
_CONSTRUCTORS = {"__init__", "__new__", "__post_init__", "__set_name__", "__init_subclass__", "<module>"}
_INIT_CODE = ("<dataclass", "<attrs generated")

HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_STDLIB = tuple(
    {os.path.realpath(p) for p in (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))}
    | {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
)


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A change point in the code under test."""

    code: CodeType
    offset: int
    op: str
    line: int
    source: str  # of the expression, "" where there is no source
    write: bool
    name: str  # the attribute or variable, "" for an item

    @property
    def file(self) -> str:
        return self.code.co_filename


class UnderTest:
    """The files whose code has change points, and what their code stores."""

    def __init__(self, files: set[str]) -> None:
        self.explicit = {f for f in files if not f.startswith(HERE)}
        self._known: dict[str, bool] = {}
        self._facts: dict[str, Facts] = {}

    def has(self, file: str) -> bool:
        known = self._known.get(file)
        if known is None:
            known = self._known[file] = self._is_users(file)
        return known

    def _is_users(self, file: str) -> bool:
        if file in self.explicit:
            return True
        if file.startswith("<"):
            return not file.startswith(("<frozen", "<string", "<attrs", "<decorator", "<lambdifygenerated", "<__array"))
        path = os.path.realpath(file)
        if path.startswith(HERE) or os.path.basename(os.path.dirname(path)) == "gilprobe":
            return False
        parts = path.split(os.sep)
        if "site-packages" in parts or "dist-packages" in parts:
            return False
        return not path.startswith(tuple(p + os.sep for p in _STDLIB))

    def facts(self, code: CodeType) -> Facts:
        file = code.co_filename
        facts = self._facts.get(file)
        if facts is None:
            facts = self._facts[file] = Facts()
            for module in list(sys.modules.values()):
                if getattr(module, "__file__", None) == file or (file in self.explicit and _holds(module, file)):
                    facts.learn_module(module, file)
        facts.learn(code)
        return facts


def _holds(module: Any, file: str) -> bool:
    if not isinstance(module, ModuleType) or getattr(module, "__file__", None) not in (None, file):
        return False
    return any((isinstance(v, FunctionType) and v.__code__.co_filename == file) or (isinstance(v, type)
               and v.__module__ == module.__name__) for v in list(vars(module).values()))  # fmt: skip


class Facts:
    """What the code of one file stores and defines, by name."""

    def __init__(self) -> None:
        self.stored: set[str] = set()  # attributes stored outside constructors, globals rebound in functions
        self.made: set[str] = set()  # attributes stored in constructors
        self.defined: set[str] = set()  # functions and methods
        self.dynamic = False  # setattr, __dict__, globals(): names say nothing
        self.module: ModuleType | None = None
        self._seen: set[int] = set()
        self._kept: list[CodeType] = []

    def learn_module(self, module: ModuleType, file: str) -> None:
        self.module = module
        for value in list(vars(module).values()):
            self._learn_value(value, module, 0)

    def _learn_value(self, value: Any, module: ModuleType, depth: int) -> None:
        value = getattr(value, "__wrapped__", value) if isinstance(value, FunctionType) else value
        if isinstance(value, (staticmethod, classmethod)):
            value = value.__func__
        if isinstance(value, property):
            for part in (value.fget, value.fset, value.fdel):
                if part is not None:
                    self._learn_value(part, module, depth)
        elif isinstance(value, FunctionType):
            if value.__module__ == module.__name__:
                self.learn(value.__code__)
        elif isinstance(value, type) and value.__module__ == module.__name__ and depth < 4:
            for part in list(vars(value).values()):
                self._learn_value(part, module, depth + 1)

    def learn(self, code: CodeType) -> None:
        if id(code) in self._seen:
            return
        self._seen.add(id(code))
        self._kept.append(code)
        if not code.co_name.startswith("<"):
            self.defined.add(code.co_name)
        constructor = code.co_name in _CONSTRUCTORS
        for instruction in dis.get_instructions(code):
            name = instruction.argval
            if instruction.opname in ("STORE_ATTR", "DELETE_ATTR"):
                (self.made if constructor else self.stored).add(name)
            elif instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                self.stored.add(name)
            elif instruction.opname in ("LOAD_GLOBAL", "LOAD_ATTR", "LOAD_METHOD", "LOAD_NAME") and name in (
                "setattr", "delattr", "__dict__", "globals", "vars", "__setattr__"
            ):  # fmt: skip
                self.dynamic = True
        for const in code.co_consts:
            if isinstance(const, CodeType):
                self.learn(const)


def points(code: CodeType, under: UnderTest, every: bool = False) -> dict[int, Site]:
    """The change points of `code` by instruction offset (bytes); `every`: each instruction (for brute-force checks)."""
    facts = under.facts(code)
    found: dict[int, Site] = {}
    instructions = list(dis.get_instructions(code))
    calls = _call_targets(code, instructions)
    previous_const = False
    aliases = _aliases(code, instructions)
    for position, instruction in enumerate(instructions):
        op = instruction.opname
        keep = every and op not in ("RESUME", "CACHE", "PRECALL", "COPY_FREE_VARS", "MAKE_CELL", "RETURN_GENERATOR")
        if not keep:
            keep = _matters(code, instructions, position, previous_const, facts, calls) or (
                op in _TESTS and position > 0 and instructions[position - 1].opname.startswith("LOAD_FAST")
                and instructions[position - 1].argval in aliases
            )  # fmt: skip
        previous_const = op == "LOAD_CONST" and isinstance(instruction.argval, (int, float, str, bytes))
        if keep:
            where = instruction.positions
            name = instruction.argval if op.split("_")[-1] in ("ATTR", "METHOD", "GLOBAL", "DEREF") else ""
            found[instruction.offset] = Site(
                code, instruction.offset, op, (where.lineno if where else None) or code.co_firstlineno,
                _segment(code, instruction), op in _WRITES, name if isinstance(name, str) else "",
            )  # fmt: skip
    return found


_TESTS = {"TO_BOOL", "UNARY_NOT", "POP_JUMP_IF_FALSE", "POP_JUMP_IF_TRUE", "POP_JUMP_FORWARD_IF_FALSE",
          "POP_JUMP_FORWARD_IF_TRUE", "POP_JUMP_BACKWARD_IF_FALSE", "POP_JUMP_BACKWARD_IF_TRUE"}  # fmt: skip
_LOCAL = {"LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW", "LOAD_FAST_LOAD_FAST",
          "LOAD_FAST_BORROW_LOAD_FAST_BORROW", "LOAD_CONST", "LOAD_SMALL_INT", "PUSH_NULL", "COPY",
          "SWAP", "PRECALL", "KW_NAMES", "CACHE", "NOP"}  # fmt: skip
_CONTENT = {"BINARY_SUBSCR", "STORE_SUBSCR", "DELETE_SUBSCR", "CONTAINS_OP", "GET_ITER", "BINARY_SLICE", "STORE_SLICE"}


def _aliases(code: CodeType, instructions: list[dis.Instruction]) -> set[str]:
    """Local variables that may be a shared object: parameters, and what is loaded from one."""
    count = code.co_argcount + code.co_kwonlyargcount
    found = set(code.co_varnames[:count]) - {"self", "cls"}
    for before, after in itertools.pairwise(instructions):
        if after.opname == "STORE_FAST" and before.opname in (*_READS, "LOAD_ATTR"):
            found.add(after.argval)
    return found


def _used_at_once(
    instructions: list[dis.Instruction], position: int, facts: Facts, calls: Calls, code: CodeType
) -> bool:
    """Whether what is loaded goes straight into an access that is a change point itself, or is only passed on."""
    for instruction in instructions[position + 1 :]:
        op = instruction.opname
        if op in _LOCAL:
            continue
        if op in ("LOAD_ATTR", "LOAD_METHOD", "BEFORE_WITH", "STORE_FAST", "RETURN_VALUE") or op in _CONTENT:
            return op not in ("LOAD_ATTR", "LOAD_METHOD") or instructions[position + 1] is instruction
        return op in _CALLS and calls.matters(instruction, facts, code)
    return False


def _matters(
    code: CodeType, instructions: list[dis.Instruction], position: int, after_const: bool, facts: Facts, calls: Calls
) -> bool:
    instruction = instructions[position]
    op = instruction.opname
    if op in _WRITES:
        return True
    if op == "BINARY_OP":
        return instruction.argrepr.endswith("=") and not after_const
    if op in _CALLS:
        return calls.matters(instruction, facts, code)
    if op not in _READS:
        return False
    name = instruction.argval
    if op == "LOAD_GLOBAL":
        return name in facts.stored or (
            facts.dynamic and facts.module is not None and _plain_global(facts.module, name)
        )
    if op in ("LOAD_ATTR", "LOAD_METHOD"):
        if name in facts.stored:
            return True
        if calls.is_callee(instruction):
            return not (name in facts.defined and name not in _BUILT_IN) and name not in _SYNC_METHODS
        if facts.dynamic or name not in facts.made:
            return True
        return not _used_at_once(instructions, position, facts, calls, code)
    if op in ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"):
        return name not in ("self", "cls", "__class__")
    return True


# Modelled operations bring a change point of their own.
_SYNC_METHODS = {"acquire", "release", "wait", "notify", "notify_all", "join", "start", "submit", "result", "wait_for"}


def _plain_global(module: ModuleType, name: str) -> bool:
    value = vars(module).get(name)
    return not isinstance(value, (FunctionType, type, ModuleType)) and not hasattr(builtins, name)


class Calls:
    """The call expressions of one code object, by the source position of the call and of its callee."""

    def __init__(self, code: CodeType, by_position: dict[tuple[Any, ...], ast.Call], source: bool) -> None:
        self.by_position = by_position
        self.callees = {_span(call.func) for call in by_position.values()}
        self.source = source
        self._stores: dict[str, bool] = {}

    def is_callee(self, instruction: dis.Instruction) -> bool:
        if not self.source:
            return instruction.opname == "LOAD_METHOD" or instruction.argrepr.startswith("NULL|self + ")
        where = instruction.positions
        if instruction.opname == "LOAD_METHOD" or "NULL" in instruction.argrepr:
            return True
        return where is not None and tuple(where) in self.callees

    def matters(self, instruction: dis.Instruction, facts: Facts, code: CodeType) -> bool:
        where = instruction.positions
        if where is None or where.lineno is None or not self.source:
            return True
        call = self.by_position.get(tuple(where))
        if call is None:  # a with statement's __exit__, a decorator, a comprehension
            return False
        if isinstance(call.func, ast.Name):
            name = call.func.id
            if name in code.co_varnames or name in code.co_freevars or name in code.co_cellvars:
                return True
            value = vars(facts.module).get(name, getattr(builtins, name, None)) if facts.module else None
            if isinstance(value, FunctionType) or name in _PURE:
                return False
            if isinstance(value, type) and (value.__module__ == (facts.module and facts.module.__name__)):
                return False
            return bool(call.args or call.keywords)
        if isinstance(call.func, ast.Attribute):
            if (call.func.attr in facts.defined and call.func.attr not in _BUILT_IN) or call.func.attr in _SYNC_METHODS:
                return False
            return any(_accesses(argument) for argument in [*call.args, *(k.value for k in call.keywords)])
        return True


def _accesses(node: ast.AST) -> bool:
    return any(isinstance(n, (ast.Attribute, ast.Subscript, ast.Call, ast.Starred)) for n in ast.walk(node))


def _call_targets(code: CodeType, instructions: list[dis.Instruction]) -> Calls:
    tree = _tree(code.co_filename)
    found: dict[tuple[Any, ...], ast.Call] = {}
    if tree is not None:
        spans = {tuple(i.positions) for i in instructions if i.opname in _CALLS and i.positions is not None}
        calls = _calls_of(code.co_filename)
        found = {span: calls[span] for span in spans if span in calls}
    return Calls(code, found, tree is not None)


_trees: dict[str, tuple[int, ast.Module | None]] = {}
_calls: dict[str, tuple[int, dict[tuple[Any, ...], ast.Call]]] = {}


def _tree(file: str) -> ast.Module | None:
    text = "".join(linecache.getlines(file))
    known = _trees.get(file)
    if known is None or known[0] != hash(text):
        try:
            tree = ast.parse(text) if text else None
        except SyntaxError:
            tree = None
        known = _trees[file] = (hash(text), tree)
    return known[1]


def _calls_of(file: str) -> dict[tuple[Any, ...], ast.Call]:
    tree = _tree(file)
    version = _trees[file][0]
    known = _calls.get(file)
    if known is None or known[0] != version:
        found = {_span(n): n for n in ast.walk(tree) if isinstance(n, ast.Call)} if tree is not None else {}
        known = _calls[file] = (version, found)
    return known[1]


def _span(node: ast.expr) -> tuple[Any, ...]:
    return (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset)


def _segment(code: CodeType, instruction: dis.Instruction) -> str:
    where = instruction.positions
    if where is None or where.lineno is None or where.lineno != where.end_lineno or where.col_offset is None:
        return ""
    line = linecache.getline(code.co_filename, where.lineno)
    return line.encode()[where.col_offset : where.end_col_offset].decode(errors="replace").strip()
