"""Every sentence that the package can say of an error, a warning or a remark, as its source has it.

`python tests/sentences.py` prints those that docs/errors.md lacks, ready to be put there, and those that it has in
vain.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "taskvec"
PAGE = ROOT / "docs" / "errors.md"
TOLD = {"append", "warn", "_refuse", "_complain"}  # calls whose words are told
REASONS = (
    "application",
    "cli/__init__.py",
    "data",
    "images",
    "locks.py",
    "memory.py",
    "models",
)  # say why by functions


SAID = {"_HOW", "HOW", "INSTALL", "LACKING", "NEEDED", "_EXPECTED", "_OTHERS", "SAVE_STATE_DICT", "ADVICE"}  # constants


def sentences() -> dict[str, str]:
    """Each sentence with what stands for what it names, and the module, below the package, that says it first."""
    found: dict[str, str] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        module = path.relative_to(SOURCE).as_posix()
        for sentence in _of(ast.parse(path.read_text()), reasons=module.startswith(REASONS)):
            found.setdefault(sentence, module)
    return found


def listed() -> list[str]:
    """The sentences on the page."""
    entries = re.findall(r"^\* (?:`` (.*) ``|`([^`]*)`)$", PAGE.read_text(), re.MULTILINE)
    return [one or other for one, other in entries]


def as_entry(sentence: str) -> str:
    """A line of the page."""
    return f"* `` {sentence} ``" if "`" in sentence else f"* `{sentence}`"


def _of(tree: ast.Module, *, reasons: bool) -> Iterator[str]:
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield from _told(node.exc, functions)
        elif isinstance(node, ast.Call) and _name(node.func) in TOLD and _about_remarks(node, reasons) and node.args:
            words = node.args[0] if _name(node.func) == "warn" else node.args[-1]
            yield from _texts(words, functions)
        elif (
            isinstance(node, ast.Return)
            and isinstance(node.value, ast.Call)
            and _name(node.value.func).endswith("Error")
        ):
            yield from _told(node.value, functions)
        elif reasons and isinstance(node, ast.FunctionDef) and not node.name.startswith("__"):
            yield from _reasons(node, functions)
    for name in SAID & set(constants):
        value = constants[name]
        for text in value.values if isinstance(value, ast.Dict) else [value]:
            yield from _texts(text, functions) if text is not None else ()


def _reasons(function: ast.FunctionDef, functions: dict[str, ast.FunctionDef]) -> Iterator[str]:
    """What a function gives that makes texts."""
    returns = ast.unparse(function.returns) if function.returns is not None else ""
    if returns not in {"str", "str | None", "list[str]", "Iterator[str]", "tuple[str, int]"}:
        return
    for node in ast.walk(function):
        if not isinstance(node, ast.Return | ast.Yield) or node.value is None:
            continue
        made = node.value
        for part in made.elts if isinstance(made, ast.List | ast.Tuple) else [made]:
            if not isinstance(part, ast.Call):
                yield from _texts(part, functions)


def _told(call: ast.Call, functions: dict[str, ast.FunctionDef]) -> Iterator[str]:
    if _name(call.func) not in functions:  # else that function makes the error
        for argument in call.args[-1:]:
            yield from _texts(argument, functions)


def _texts(node: ast.expr, functions: dict[str, ast.FunctionDef]) -> Iterator[str]:
    """What an expression says: one sentence, or one of several."""
    if isinstance(node, ast.IfExp):
        yield from _texts(node.body, functions)
        yield from _texts(node.orelse, functions)
    elif isinstance(node, ast.Call) and _name(node.func) in functions:
        for inner in ast.walk(functions[_name(node.func)]):
            if isinstance(inner, ast.Return) and inner.value is not None:
                yield from _texts(inner.value, {})
    elif (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.JoinedStr)
    ):
        yield _shown(node.func.value)
    elif isinstance(node, ast.JoinedStr | ast.BinOp) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    ):
        text = _shown(node)
        if len(re.sub(r"[A-Z_…]+", "", text).split()) > 2:
            yield text


def _shown(node: ast.expr) -> str:
    """A text with capitals for what it names, and … for what is made up."""
    if isinstance(node, ast.Constant):
        return str(node.value).replace("\n", " ")
    if isinstance(node, ast.BinOp):
        return _shown(node.left) + _shown(node.right)
    if isinstance(node, ast.JoinedStr):
        return _joined([_shown(part) for part in node.values], [isinstance(part, ast.Constant) for part in node.values])
    if isinstance(node, ast.FormattedValue):
        return _placeholder(node.value)
    return "…"


def _joined(parts: list[str], fixed: list[bool]) -> str:
    """What touches a word or another such thing is a part of the sentence, not a name."""
    for index in range(len(parts)):
        after = parts[index + 1][:1] if index + 1 < len(parts) else " "
        before = parts[index - 1][-1:] if index else " "
        if not fixed[index] and (after.isalnum() or after == "…" or before.isalnum() or before == "…"):
            parts[index] = "…"
    return re.sub("…+", "…", "".join(parts))


def _placeholder(node: ast.expr) -> str:
    name = _name(node).strip("_").upper()
    if name:
        return name
    if isinstance(node, ast.Call) and _name(node.func) == "len":
        return "N"
    if isinstance(node, ast.Call) and len(node.args) == 1 and (inner := _placeholder(node.args[0])) != "…":
        return inner
    return "…"


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _about_remarks(call: ast.Call, reasons: bool) -> bool:
    """Lines are remarks where files are read, and elsewhere those of a report."""
    what = ast.unparse(call.func)
    return _name(call.func) != "append" or "remarks" in what or (reasons and what == "lines.append")


if __name__ == "__main__":
    source, page = sentences(), listed()
    for sentence, module in sorted(source.items(), key=lambda item: item[1]):
        if sentence not in page:
            print(f"{module}:\n{as_entry(sentence)}")
    for sentence in page:
        if sentence not in source:
            print(f"no longer said:\n{as_entry(sentence)}")
