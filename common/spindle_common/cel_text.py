"""Reading CEL without running it: what an expression refers to, and how often it would go through a list.

The CEL library says which variables an expression names, but neither which of their fields nor how many
comprehensions it holds, and a nested comprehension of 479 characters took 1.9 s and 872 MB. So the text is cut into
tokens here (strings and comments apart) and read once from left to right. `parse` in `expressions` compares the
variables found here with those that the library found, so that nothing slips by if the two ever read differently.
"""

import ast
import re
from dataclasses import dataclass, field
from typing import NamedTuple

MACROS = frozenset({"map", "filter", "all", "exists", "exists_one", "existsOne"})
_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
    |(?P<string>[rRbB]{0,2}(?:\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}
        |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<number>0[xX][0-9a-fA-F]+[uU]?|[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?[uU]?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>&&|\|\||[=!<>]=|[-+*/%!<>?:.,=()\[\]{}])""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_OPENING = frozenset({")", "]", "}"})
_LITERALS = frozenset({"true", "false", "null", "in"})


class ScanError(ValueError):
    """The expression cannot be read, or is not one that we take; `hint` says what to write."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class Token(NamedTuple):
    """A piece of an expression; `kind` is string, number, name or sign, and `at` its offset in the text."""

    kind: str
    text: str
    at: int = 0


@dataclass
class Scan:
    """What the text says: dotted pairs, those that `has` asks for, all variables and functions, the comprehensions."""

    roots: dict[str, None] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    bare: dict[str, None] = field(default_factory=dict)
    variables: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    macros: list["Macro"] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)
    range_roots: list[str] = field(default_factory=list)
    body_roots: list[str] = field(default_factory=list)


@dataclass
class Macro:
    """A comprehension: its name, the variable it binds, and where, in tokens, the list that it goes through starts
    (`over`) and its brackets start and end; `literal` counts the items written out in that list.
    """

    name: str
    variable: str
    over: int
    start: int
    end: int
    literal: int


def scan(text: str) -> Scan:
    """Read an expression; raises ScanError."""
    tokens = _tokens(text)
    found = Scan()
    _find_macros(tokens, found)
    for at, token in enumerate(tokens):
        if token.kind == "name":
            _read_name(tokens, at, found)
    return found


def _tokens(text: str) -> list[Token]:
    tokens, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise ScanError(f"{text[at]!r} at position {at + 1} does not belong into an expression")
        if match.lastgroup != "space":
            tokens.append(Token(match.lastgroup, match.group(), at))
        at = match.end()
    return tokens


def _find_macros(tokens: list[Token], found: Scan) -> None:
    for at, token in enumerate(tokens):
        if token.text in MACROS and _is(tokens, at - 1, ".") and _is(tokens, at + 1, "("):
            end = _closing(tokens, at + 1)
            variable = tokens[at + 2].text if at + 2 < end else ""
            over = _operand_start(tokens, at - 2)
            literal = sum(_is(tokens, i, ",") for i in range(over, at)) + 1
            found.macros.append(Macro(token.text, variable, over, at + 2, end, literal))


def _closing(tokens: list[Token], opening: int) -> int:
    depth = 0
    for at in range(opening, len(tokens)):
        if tokens[at].kind == "sign":
            depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(tokens[at].text, 0)
            if depth == 0:
                return at
    return len(tokens)


def _operand_start(tokens: list[Token], at: int) -> int:
    """Where the operand that ends at token `at` starts: `a.b[0].c`, `(x + y)`, `[1, 2]`, `f(x)`."""
    while at > 0:
        if tokens[at].kind == "sign" and tokens[at].text in _OPENING:
            at = _opening(tokens, at)
            if at > 0 and tokens[at].text in "([" and _ends_operand(tokens[at - 1]):
                at -= 1
                continue
        if not _is(tokens, at - 1, "."):
            break
        at -= 2
    return max(at, 0)


def _opening(tokens: list[Token], closing: int) -> int:
    depth = 0
    for at in range(closing, -1, -1):
        if tokens[at].kind == "sign":
            depth += {")": 1, "]": 1, "}": 1, "(": -1, "[": -1, "{": -1}.get(tokens[at].text, 0)
            if depth == 0:
                return at
    return 0


def _read_name(tokens: list[Token], at: int, found: Scan) -> None:
    name, called = tokens[at].text, _is(tokens, at + 1, "(")
    if called and name == "matches":
        found.patterns.append(_pattern(tokens, at))
    if _is(tokens, at - 1, "."):
        if at < 2 or not _ends_operand(tokens[at - 2]):
            raise ScanError(f"`.{name}` starts with a dot", "leave the dot out")
        if called and name not in MACROS:
            found.functions.add(name)
        return
    if name in _LITERALS:
        return
    if called:
        if name != "has":
            found.functions.add(name)
        return
    found.variables.add(name)
    inside = [macro for macro in found.macros if macro.start <= at < macro.end]
    if not any(macro.variable == name for macro in inside):
        _read_variable(tokens, at, found)


def _read_variable(tokens: list[Token], at: int, found: Scan) -> None:
    name, second = tokens[at].text, _field_of(tokens, at)
    if second is None:
        found.bare[name] = None
        return
    dotted = f"{name}.{second}"
    found.roots[dotted] = None
    if _is(tokens, at - 2, "has") and _is(tokens, at - 1, "(") and _is(tokens, at + 3, ")"):
        found.asked.add(dotted)
    if any(macro.start <= at < macro.end for macro in found.macros):
        found.body_roots.append(dotted)
    if any(macro.over <= at < macro.start for macro in found.macros):
        found.range_roots.append(dotted)


def _field_of(tokens: list[Token], at: int) -> str | None:
    """The field that a variable is asked for: `.name`, or `["name"]`."""
    if _is(tokens, at + 1, ".") and at + 2 < len(tokens) and tokens[at + 2].kind == "name":
        return None if _is(tokens, at + 3, "(") else tokens[at + 2].text
    if _is(tokens, at + 1, "[") and _is(tokens, at + 3, "]") and tokens[at + 2].kind == "string":
        return _text_of(tokens[at + 2].text)
    return None


def _pattern(tokens: list[Token], at: int) -> str:
    """The regular expression given to `matches`, which must stand there in full so that it is checked at submit."""
    first = at + 2 if _is(tokens, at - 1, ".") else _after_comma(tokens, at + 1)
    if first + 1 < len(tokens) and tokens[first].kind == "string" and _is(tokens, first + 1, ")"):
        return _text_of(tokens[first].text) or ""
    raise ScanError("`matches` wants its pattern as a literal string", 'write it as x.matches("^a+$")')


def _after_comma(tokens: list[Token], opening: int) -> int:
    end = _closing(tokens, opening)
    commas = [at for at in range(opening, end) if _is(tokens, at, ",")]
    return commas[-1] + 1 if commas else end


def _text_of(literal: str) -> str | None:
    try:
        value = ast.literal_eval(literal)
    except (ValueError, SyntaxError):
        return None
    return value if isinstance(value, str) else None


def _is(tokens: list[Token], at: int, text: str) -> bool:
    return 0 <= at < len(tokens) and tokens[at].kind in ("sign", "name") and tokens[at].text == text


def _ends_operand(token: Token) -> bool:
    return token.kind != "sign" or token.text in _OPENING
