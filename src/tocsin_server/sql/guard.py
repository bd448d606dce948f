"""The guard: one SELECT over ``events`` in, the checked statement out, everything else refused."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NoReturn

import duckdb
import orjson

from tocsin_server.errors import TocsinError
from tocsin_server.sql.allowed import CLOCK, FUNCTIONS, JOINS, NODES, SERIES, SPOKEN, SYSTEM_NAMES

MAX_TEXT_BYTES = 20_000
MAX_DEPTH = 64
MAX_SERIES_ROWS = 1_000_000

_ONE_SELECT = "only one SELECT over the table `events` may run; docs/events.md lists its columns"

Node = dict[str, Any]
Tables = frozenset[str]


class RefusedSQL(TocsinError):  # noqa: N818 - the name is the sentence: refused SQL
    """A statement that is not one SELECT over the closed lists; it was not run."""

    def __init__(self, reason: str, what_to_do: str = _ONE_SELECT) -> None:
        super().__init__(f"refused: {reason}; {what_to_do}")


def guard(sql: str, *, deterministic: bool = False) -> str:
    """The statement to run for ``sql``, written from its checked tree; ``:name`` parameters become ``$name``.

    ``deterministic`` also refuses the clock and samples, as an alert rule must (it is a function of its
    events). Raises :class:`RefusedSQL`.
    """
    _check_text(sql)
    tree = _parse(_with_dollar_parameters(sql))
    _check(tree, deterministic)
    statement = _ask_parser("SELECT json_deserialize_sql(?)", orjson.dumps(tree).decode()).strip()
    _check(_parse(statement), deterministic)
    return statement


def _check_text(sql: str) -> None:
    try:
        size = len(sql.encode())
    except UnicodeEncodeError:
        raise RefusedSQL("the statement is not valid Unicode text", "correct its encoding") from None
    if size > MAX_TEXT_BYTES:
        raise RefusedSQL(f"the statement has {size} bytes", f"{MAX_TEXT_BYTES} are allowed; shorten it")
    if "\0" in sql:
        raise RefusedSQL("the statement contains a NUL character", "remove it")


def _with_dollar_parameters(sql: str) -> str:
    """``:name`` written as ``$name`` wherever no operand stands before the colon (slice, struct, lambda)."""
    text = sql.encode()
    tokens = [(start, kind.name) for start, kind in duckdb.tokenize(sql) if kind.name != "comment"]
    pieces, copied = [], 0
    previous = (0, "operator")
    for token, (name, name_kind) in pairwise(tokens):
        colon = token[0]
        is_name = text[colon:name] == b":" and name_kind in {"identifier", "keyword"}
        if is_name and not _is_operand(text, previous, colon):
            pieces += [text[copied:colon], b"$"]
            copied = name
        previous = token
    return b"".join([*pieces, text[copied:]]).decode()


def _is_operand(text: bytes, token: tuple[int, str], end: int) -> bool:
    start, kind = token
    if kind == "operator":
        return text[start : start + 1] in {b")", b"]", b"}"}
    # Struct keys may be keywords, {from:x}; a keyword with a space after it, BETWEEN :x, is a keyword.
    return kind != "keyword" or not text[end - 1 : end].isspace()


@functools.cache
def empty_database() -> duckdb.DuckDBPyConnection:
    """A locked database without tables: only its parser and its functions are used, through cursors.

    The whole process shares it: each database is 4 MiB.
    """
    connection = duckdb.connect(":memory:", config={"threads": 1, "async_threads": 1})
    for setting in (
        f"max_expression_depth = {MAX_DEPTH}",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


def _ask_parser(question: str, text: str) -> str:
    try:
        with empty_database().cursor() as connection:
            answer = connection.execute(question, [text]).fetchone()
    except duckdb.Error as error:
        empty_database.cache_clear()  # an internal error would end the database for every later statement
        raise RefusedSQL(f"DuckDB cannot read the statement: {' '.join(str(error).split())}") from None
    return str(answer[0]) if answer else ""


def _parse(sql: str) -> Node:
    """DuckDB's tree of exactly one SELECT."""
    answer = _ask_parser("SELECT json_serialize_sql(?, skip_null := true, skip_empty := true)", sql)
    try:
        tree: Node = orjson.loads(answer)
    except orjson.JSONDecodeError:  # deeper than orjson's 1,024 levels
        _refuse_depth()
    if tree["error"]:
        _refuse_unparsed(sql, tree)
    count = len(tree.get("statements", ()))
    if count != 1:
        raise RefusedSQL(f"{count} statements were given" if count else "there is no statement")
    return tree


def _refuse_unparsed(sql: str, tree: Node) -> NoReturn:
    message = " ".join(str(tree.get("error_message")).split())
    if "depth limit" in message:
        _refuse_depth()
    if tree.get("error_type") == "parser":
        place = f" at character {int(tree['position']) + 1}" if "position" in tree else ""
        raise RefusedSQL(message + place)
    kind = _statement_kind(sql)
    raise RefusedSQL(f"{SPOKEN.get(kind, kind.replace('_', ' '))} is not a SELECT")


def _statement_kind(sql: str) -> str:
    try:
        return next((s.type.name for s in duckdb.extract_statements(sql) if s.type.name != "SELECT"), "this")
    except duckdb.Error:
        return "this"


def _refuse_depth() -> NoReturn:
    raise RefusedSQL(f"the statement is nested deeper than {MAX_DEPTH} levels", "flatten it with WITH")


def _check(tree: Node, deterministic: bool) -> None:
    """Walk every node of the tree together with the tables that it may name."""
    waiting: list[tuple[Any, int, Tables]] = [(tree["statements"], 0, frozenset({"events"}))]
    while waiting:
        value, depth, tables = waiting.pop()
        if isinstance(value, list):
            waiting += ((item, depth, tables) for item in value)
        elif isinstance(value, dict):
            kind = value.get("class") or value.get("type")
            if isinstance(kind, str):
                depth += 1
                _check_node(kind, value, tables, deterministic)
            if depth > 2 * MAX_DEPTH:  # a subquery is two nodes: the reference and its SELECT
                _refuse_depth()
            for body, name in _ctes(value):
                waiting.append((body, depth, tables))  # sees the names before it, not its own
                tables |= {name}
            waiting += ((child, depth, tables) for child in _children(kind, value))


def _ctes(node: Node) -> Iterable[tuple[Node, str]]:
    for entry in node.get("cte_map", {}).get("map", ()):
        name = entry["key"]
        if not (name.isascii() and name.isidentifier()):
            raise RefusedSQL(f"`{name}` is not a plain name for a WITH", "use letters, digits and _")
        yield entry["value"], name.lower()


def _children(kind: object, node: Node) -> Iterable[Any]:
    if kind == "TABLE_FUNCTION":  # the call itself was checked with its node
        return [node["function"].get("arguments", [])]
    return (child for key, child in node.items() if key != "cte_map")


def _check_node(kind: str, node: Node, tables: Tables, deterministic: bool) -> None:
    if kind not in NODES:
        raise RefusedSQL(f"{SPOKEN.get(kind, kind)} is not allowed")
    _check_plain_name(node)
    check = _CHECKS.get(kind)
    if check:
        check(node, tables)
    if deterministic:
        _check_deterministic(node)


def _check_plain_name(node: Node) -> None:
    path = node.get("qualified_name", {}).get("path", [])
    parts = ("schema", "catalog", "schema_name", "catalog_name")
    if len(path) > 1 or any(node.get(part) for part in parts):
        raise RefusedSQL(f"`{'.'.join(path)}` names a schema or a method", "write plain names: upper(name)")


def _check_deterministic(node: Node) -> None:
    if node.get("sample"):
        raise RefusedSQL("a sample differs from run to run", "a rule must depend on its events only")
    called = (node.get("function_name") or node.get("column_names", [""])[-1]).lower()
    if called in CLOCK:
        raise RefusedSQL(f"`{called}` is the time of the call", "a rule must depend on its events only")


def _check_table(node: Node, tables: Tables) -> None:
    if node["table_name"].lower() not in tables:
        raise RefusedSQL(f"there is no table `{node['table_name']}`")


def _check_function(node: Node, _: Tables) -> None:
    name = node["function_name"].lower()
    if name in SERIES:
        raise RefusedSQL(f"`{name}` may only stand in FROM", f"write FROM {name}(0, 10) AS t(i)")
    if name not in FUNCTIONS:
        raise RefusedSQL(f"the function `{name}` is not on the list of functions")


def _check_column(node: Node, _: Tables) -> None:
    name = node["column_names"][-1]
    if name.lower() in SYSTEM_NAMES:
        raise RefusedSQL(f"`{name}` asks about the system", "give the column another name")


def _check_star(node: Node, _: Tables) -> None:
    if node.get("columns") and node.get("expr"):
        raise RefusedSQL("COLUMNS(…) is not allowed", "name the columns")


def _check_join(node: Node, _: Tables) -> None:
    if node["ref_type"] not in JOINS:
        raise RefusedSQL(f"a {node['ref_type'].lower()} join is not allowed", "join ON or USING columns")


def _check_table_function(node: Node, _: Tables) -> None:
    call = node["function"]
    _check_plain_name(call)
    name = call["function_name"].lower()
    if name in SERIES:
        _check_series(name, [_integer(a["expression"]) for a in call.get("arguments", ())])
    elif name != "unnest":
        raise RefusedSQL(f"the function `{name}` may not stand in FROM")


def _check_series(name: str, bounds: list[int | None]) -> None:
    first, last, step = {1: [0, *bounds, 1], 2: [*bounds, 1], 3: bounds}.get(len(bounds), [None] * 3)
    if first is None or last is None or not step:
        raise RefusedSQL(f"`{name}` needs integers as its bounds", f"write {name}(0, 10)")
    if abs(last - first) // abs(step) > MAX_SERIES_ROWS:
        raise RefusedSQL(f"`{name}` makes more than {MAX_SERIES_ROWS} rows", "choose closer bounds")


def _integer(expression: Node) -> int | None:
    literal = expression.get("literal", {})
    return int(literal["text"]) if literal.get("kind") == "INTEGER" else None


_CHECKS = {
    "BASE_TABLE": _check_table,
    "FUNCTION": _check_function,
    "WINDOW": _check_function,
    "COLUMN_REF": _check_column,
    "STAR": _check_star,
    "JOIN": _check_join,
    "TABLE_FUNCTION": _check_table_function,
}
