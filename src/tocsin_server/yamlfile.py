"""YAML files that people write, read with the line of every key, and all faults reported at once.

Use it in three steps::

    document, faults = load_yaml(Path("tocsin.yaml"))      # or load_yaml(text, "tocsin.yaml")
    try:
        settings = Settings.model_validate(document.data)
    except ValidationError as error:
        faults += document.faults_of(error, Settings)      # one Fault per error, at the line of its key
    if faults:
        raise FaultsError(faults)

``document.data`` holds plain dicts, lists, strings, numbers, booleans and None; it is None when the file
cannot be read at all (then skip the validation). ``document.line_of(("alerts", 0, "for"))`` is the line of
that key; for a key that is not there, the line of its parent. A validator of a model can raise
``PydanticCustomError("kind", "message", {"hint": "what to do"})`` to give its fault a hint.

Scalars follow YAML 1.2, not the surprises of 1.1: ``on``, ``no``, ``5:30``, ``1_000``, ``010`` and dates
are text; ``true`` and ``false`` are booleans. Merge keys (``<<``) and tags are refused; aliases may not
grow the file.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from tocsin_server.errors import Fault

#: Place of a value in a document: keys and list indexes from the root.
Location = tuple[Hashable, ...]

MAX_FILE_BYTES = 1_000_000
MAX_VALUES = 50_000


@dataclass(slots=True)
class Document:
    """A YAML document as plain data, with the line of each key and each list item."""

    file: str
    data: Any = None
    lines: dict[Location, int] = field(default_factory=dict)

    def line_of(self, location: Iterable[Hashable]) -> int:
        """Line (from 1) of the deepest part of ``location`` that exists; unknown parts are skipped."""
        path: Location = ()
        for part in location:
            if (*path, part) in self.lines:
                path = (*path, part)
        return self.lines.get(path, 1)

    def fault(self, location: Iterable[Hashable], message: str, hint: str = "") -> Fault:
        """A fault at the line of ``location``."""
        return Fault(self.file, self.line_of(location), message, hint)

    def faults_of(self, error: ValidationError, model: type[BaseModel]) -> list[Fault]:
        """Every error of validating ``data`` against ``model``, as faults with lines and hints."""
        details = error.errors(include_url=False, include_input=True)
        return sorted({self._fault_of(dict(detail), model) for detail in details})

    def _fault_of(self, detail: dict[str, Any], model: type[BaseModel]) -> Fault:
        location = detail["loc"]
        key = str(location[-1]) if location else "the document"
        if detail["type"] == "missing":
            return self.fault(location, f"`{key}` is missing", _keys_hint(known_keys(model, location[:-1])))
        if detail["type"] == "extra_forbidden":
            return self.fault(
                location, f"unknown key `{key}`", did_you_mean(key, known_keys(model, location[:-1]))
            )
        hint = (detail.get("ctx") or {}).get("hint", "")
        text = _PROBLEMS.get(detail["type"], detail["msg"].removeprefix("Value error, "))
        return self.fault(location, f"`{self._name_of(location)}`: {text}", hint)

    def _name_of(self, location: Location) -> str:
        """The innermost key of ``location`` that is in the file (list indexes and union names left out)."""
        path: Location = ()
        name: str = str(location[-1]) if location else "the document"
        for part in location:
            if (*path, part) in self.lines:
                path = (*path, part)
                name = part if isinstance(part, str) else name
        return name


#: Pydantic's words for Python types -> words for people who write YAML.
_PROBLEMS = {
    "model_type": "must be a mapping (`key: value`)",
    "model_attributes_type": "must be a mapping (`key: value`)",
    "dict_type": "must be a mapping (`key: value`)",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "string_type": "must be text; quote it",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}


def load_yaml(source: Path | str | bytes, file: str = "") -> tuple[Document, list[Fault]]:
    """Reads one YAML document from a path, or from text with ``file`` as its name.

    Returns the document and the faults of reading it: syntax, encoding, duplicate keys, more than one
    document, unreadable file. ``data`` is None when nothing could be read; validate it otherwise, to
    report more at once.
    """
    file = file or (str(source) if isinstance(source, Path) else "<text>")
    document = Document(file)
    try:
        raw = _read(source)
    except OSError as error:
        return document, [
            Fault(file, 1, f"cannot be read: {error.strerror}", "check the path and its permissions")
        ]
    text, faults = _decode(raw, file)
    if not faults:
        faults = _parse(text, document)
    return document, sorted(faults)


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """``did you mean `x`?`` for the nearest of ``known``, else the list of ``known``."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=cutoff)
    return f"did you mean `{near[0]}`?" if near else _keys_hint(known)


def known_keys(model: type[BaseModel], location: Iterable[Hashable]) -> set[str]:
    """Keys that ``model`` allows at ``location``, read from its JSON schema (the union over alternatives)."""
    schema = _schema_of(model)
    definitions = schema.get("$defs", {})
    places = list(_alternatives(schema, definitions))
    for part in location:
        below = [child for place in places for child in _children(place, part)]
        if below:
            places = [found for child in below for found in _alternatives(child, definitions)]
    return {key for place in places for key in place.get("properties", {})}


# --- reading ------------------------------------------------------------------------------------------------


def _read(source: Path | str | bytes) -> bytes:
    if isinstance(source, Path):
        with source.open("rb") as stream:
            return stream.read(MAX_FILE_BYTES + 1)
    return source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source


def _decode(raw: bytes, file: str) -> tuple[str, list[Fault]]:
    if len(raw) > MAX_FILE_BYTES:
        return "", [Fault(file, 1, f"is larger than {MAX_FILE_BYTES:,} bytes", "split the file")]
    try:
        return raw.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return "", [
            Fault(file, line, f"byte 0x{raw[error.start]:02x} is not UTF-8", "save the file as UTF-8")
        ]


def _parse(text: str, document: Document) -> list[Fault]:
    try:
        root = _Loader(text).get_single_node()
        if root is None:
            return [Fault(document.file, 1, "the file is empty", "write it, or delete it")]
        reader = _Reader(document)
        document.data = reader.value(root, ())
        document.lines[()] = root.start_mark.line + 1
        return reader.faults
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return [Fault(document.file, line, "holds a control character", 'remove it, or write it as "\\x.."')]
    except yaml.MarkedYAMLError as error:
        return [_syntax_fault(error, document.file)]
    except RecursionError:
        return [Fault(document.file, 1, "is nested too deeply", "flatten the file")]


def _syntax_fault(error: yaml.MarkedYAMLError, file: str) -> Fault:
    problem = " ".join(part for part in (error.problem, error.context) if part)
    unclosed = "flow" in problem or "quoted" in problem  # then the start says more than the place of surprise
    mark = (error.context_mark if unclosed else None) or error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    if "another document" in problem:
        return Fault(file, line, "holds more than one document", "keep one; remove `---`")
    hint = "indent with spaces, not tabs" if r"'\t'" in problem else "check indentation, quotes and colons"
    return Fault(file, line, f"is not valid YAML: {problem}", hint)


class _Loader(yaml.SafeLoader):
    """PyYAML's scanner and parser with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 -- PyYAML's own


_SCALARS = {
    "null": (r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
    "bool": (r"(?:true|True|TRUE|false|False|FALSE)", list("tTfF")),
    "int": (r"(?:[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+)", list("-+0123456789")),
    "float": (
        r"(?:[-+]?(?:(?:0|[1-9][0-9]*)?\.[0-9]+|(?:0|[1-9][0-9]*)\.?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))",
        list("-+.0123456789"),
    ),
}
for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^{_pattern}$"), _first)


class _Reader:
    """Turns composed nodes into plain data, noting lines and collecting faults."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.faults: list[Fault] = []
        self.values = 0
        self.open: set[int] = set()

    def value(self, node: yaml.Node, path: Location) -> Any:
        self.values += 1
        if id(node) in self.open or self.values > MAX_VALUES:
            if not any("alias" in fault.message for fault in self.faults):
                self.fault(node, "aliases make the document too large or endless", "write the values out")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        self.open.add(id(node))
        try:
            return (
                self.mapping(node, path) if isinstance(node, yaml.MappingNode) else self.sequence(node, path)
            )
        finally:
            self.open.discard(id(node))

    def mapping(self, node: yaml.MappingNode, path: Location) -> dict[Any, Any]:
        self.check_tag(node, "map")
        data: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.key(key_node)
            if key in data:
                self.fault(
                    key_node,
                    f"duplicate key `{key}`",
                    f"the first is in line {self.document.lines[(*path, key)]}",
                )
            elif key is not None:
                self.document.lines[(*path, key)] = key_node.start_mark.line + 1
                data[key] = self.value(value_node, (*path, key))
        return data

    def key(self, node: yaml.Node) -> str | int | None:
        if not isinstance(node, yaml.ScalarNode):
            self.fault(node, "a key must be a word", "quote it if it holds brackets or braces")
            return None
        if node.value == "<<" and node.style is None:
            self.fault(node, "merge keys (`<<`) are not supported", "write the keys out")
            return None
        return str(node.value)

    def sequence(self, node: yaml.Node, path: Location) -> list[Any]:
        self.check_tag(node, "seq")
        for index, item in enumerate(node.value):
            self.document.lines[(*path, index)] = item.start_mark.line + 1
        return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]

    def scalar(self, node: yaml.ScalarNode) -> Any:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind not in ("str", *_SCALARS):
            self.fault(node, f"tag `{node.tag}` is not supported", "remove the tag")
            return None
        try:
            return _SCALAR_VALUES[kind](node.value)
        except ValueError:
            self.fault(
                node, f"`{node.value[:40]}` is not a valid {kind}", "remove the tag, or quote the text"
            )
            return None

    def check_tag(self, node: yaml.Node, kind: str) -> None:
        if node.tag != f"tag:yaml.org,2002:{kind}":
            self.fault(node, f"tag `{node.tag}` is not supported", "remove the tag")

    def fault(self, node: yaml.Node, message: str, hint: str) -> None:
        self.faults.append(Fault(self.document.file, node.start_mark.line + 1, message, hint))


def _bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _float(text: str) -> float:
    return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))


_SCALAR_VALUES: dict[str, Callable[[str], Any]] = {
    "str": str,
    "null": lambda text: None,
    "bool": _bool,
    "int": lambda text: int(text, 16) if text.startswith("0x") else int(text),
    "float": _float,
}


# --- JSON schema --------------------------------------------------------------------------------------------


@functools.cache
def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema(by_alias=True, mode="validation")


def _alternatives(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in schema:
        yield from _alternatives(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
        return
    yield schema
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from _alternatives(choice, definitions)


def _children(schema: dict[str, Any], part: Hashable) -> Iterator[dict[str, Any]]:
    below = schema.get("items") if isinstance(part, int) else schema.get("properties", {}).get(part)
    if below is None and isinstance(part, str):
        below = schema.get("additionalProperties")
    if isinstance(below, dict):
        yield below


def _keys_hint(keys: Iterable[str]) -> str:
    listed = ", ".join(f"`{key}`" for key in sorted(keys))
    return f"known: {listed}" if listed else ""
