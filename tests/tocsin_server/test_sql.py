"""The SQL guard: what it lets through gives right answers, everything else is refused (rows I16, I17)."""

from __future__ import annotations

import time
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_server.columns import CREATE_EVENTS
from tocsin_server.errors import TocsinError
from tocsin_server.sql import Limits, RefusedSQL, guard, lock, run
from tocsin_server.sql.allowed import CLOCK, FUNCTIONS, SERIES

ROWS = """
    ('2026-11-23T07:00:00Z', 'e1', 'api.request', 'core', 'success', 200, 10, '7', '/a', '{"http.method": "GET", "n": 1}'),
    ('2026-11-23T07:01:00Z', 'e2', 'api.request', 'core', 'error', 500, 30, '7', '/a', '{"http": {"method": "PUT"}}'),
    ('2026-11-23T07:06:00Z', 'e3', 'api.request', 'ai', 'success', 204, 20, '8', '/b', '{"tags": ["x", "y"]}'),
    ('2026-11-23T08:00:00Z', 'e4', 'log', 'ai', NULL, NULL, NULL, NULL, NULL, NULL)
"""  # noqa: E501


def events(directories: tuple[str, ...] = ()) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(CREATE_EVENTS)
    connection.execute(
        "INSERT INTO events"
        " (ts, event_id, name, service, status, http_status, duration_ms, tenant_id, path, attrs)"
        f" VALUES {ROWS}"
    )
    lock(connection, directories, 256 << 20, 2)
    return connection


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return events()


ALLOWED: list[tuple[str, object]] = [
    ("SELECT count(*) FROM events", [(4,)]),
    ("select count(*) from EVENTS;", [(4,)]),
    ("FROM events SELECT count(*)", [(4,)]),
    ("SELECT name, count(*) AS n FROM events GROUP BY ALL ORDER BY n DESC", [("api.request", 3), ("log", 1)]),
    ("SELECT name, count(*) n FROM events GROUP BY 1 HAVING n > 1", [("api.request", 3)]),
    ("SELECT event_id FROM events WHERE http_status >= 500", [("e2",)]),
    (
        "SELECT count(*) FILTER (WHERE http_status >= 500) / count(http_status)::DOUBLE FROM events",
        [(1 / 3,)],
    ),
    ("SELECT avg(duration_ms), min(duration_ms), max(duration_ms) FROM events", [(20.0, 10.0, 30.0)]),
    ("SELECT quantile_cont(duration_ms, 0.5), median(duration_ms) FROM events", [(20.0, 20.0)]),
    ("SELECT quantile_cont(duration_ms, [0.0, 1.0]) FROM events", [([10.0, 30.0],)]),
    ("SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms) FROM events", [(20.0,)]),
    ("SELECT DISTINCT service FROM events ORDER BY 1", [("ai",), ("core",)]),
    (
        "SELECT DISTINCT ON (service) service, event_id FROM events ORDER BY service, ts",
        [("ai", "e3"), ("core", "e1")],
    ),
    ("SELECT event_id FROM events ORDER BY ts DESC NULLS LAST LIMIT 1 OFFSET 1", [("e3",)]),
    ("SELECT attrs->>'http.method' FROM events WHERE event_id = 'e1'", [("GET",)]),
    ("SELECT attrs->>'$.http.method' FROM events WHERE event_id = 'e2'", [("PUT",)]),
    ("SELECT (attrs->'http')->>'method' FROM events WHERE event_id = 'e2'", [("PUT",)]),
    ("SELECT json_extract_string(attrs, '$.tags[1]') FROM events WHERE event_id = 'e3'", [("y",)]),
    (
        "SELECT unnest(json_keys(attrs)) FROM events WHERE event_id = 'e1' ORDER BY 1",
        [("http.method",), ("n",)],
    ),
    (
        "SELECT time_bucket(INTERVAL 5 MINUTE, ts)::VARCHAR t, count(*) FROM events GROUP BY t"
        " ORDER BY t LIMIT 1",
        [("2026-11-23 07:00:00+00", 2)],
    ),
    ("SELECT date_trunc('hour', ts) = '2026-11-23 07:00:00Z' FROM events LIMIT 1", [(True,)]),
    (
        "SELECT extract(minute FROM ts), hour(ts), epoch(ts) FROM events WHERE event_id = 'e2'",
        [(1, 7, 1795417260.0)],
    ),
    ("SELECT strftime(ts AT TIME ZONE 'Europe/Berlin', '%H:%M') FROM events LIMIT 1", [("08:00",)]),
    (
        "SELECT count(*) FROM events WHERE ts BETWEEN '2026-11-23T07:00:30Z' AND '2026-11-23T07:06:00Z'",
        [(2,)],
    ),
    (
        "SELECT count(*) FROM events WHERE ts > TIMESTAMPTZ '2026-11-23 08:00:00Z' - INTERVAL '30 minutes'",
        [(1,)],
    ),
    ("SELECT count(*) FROM events WHERE ts < now() - INTERVAL 100 YEAR", [(0,)]),
    (
        "SELECT event_id, row_number() OVER (PARTITION BY service ORDER BY ts) r FROM events"
        " QUALIFY r = 1 ORDER BY 1",
        [("e1", 1), ("e3", 1)],
    ),
    (
        "SELECT sum(duration_ms) OVER (ORDER BY ts ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM"
        " events LIMIT 2",
        [(10.0,), (40.0,)],
    ),
    ("SELECT lag(event_id) OVER w FROM events WINDOW w AS (ORDER BY ts) LIMIT 2", [(None,), ("e1",)]),
    ("WITH bad AS (SELECT * FROM events WHERE status = 'error') SELECT event_id FROM bad", [("e2",)]),
    ("WITH a AS (SELECT 1 x), b AS (SELECT x + 1 y FROM a) SELECT y FROM b", [(2,)]),
    ("WITH events AS (SELECT * FROM events WHERE service = 'ai') SELECT count(*) FROM events", [(2,)]),
    ("SELECT count(*) FROM (SELECT DISTINCT path FROM events) AS paths", [(3,)]),
    (
        "SELECT e.event_id FROM events e JOIN events f ON e.tenant_id = f.tenant_id AND"
        " f.http_status = 500 ORDER BY 1",
        [("e1",), ("e2",)],
    ),
    ("SELECT count(*) FROM events LEFT JOIN (SELECT 'ai' service) s USING (service)", [(4,)]),
    (
        "SELECT e.event_id FROM events e ASOF JOIN (SELECT TIMESTAMPTZ '2026-11-23 07:05:00Z' t) d"
        " ON e.ts >= d.t"
        " ORDER BY 1",
        [("e3",), ("e4",)],
    ),
    (
        "SELECT event_id FROM events WHERE service IN (SELECT service FROM events WHERE name ="
        " 'log') ORDER BY 1",
        [("e3",), ("e4",)],
    ),
    ("SELECT EXISTS (SELECT 1 FROM events WHERE http_status = 418)", [(False,)]),
    ("SELECT 1 UNION ALL SELECT 1 UNION SELECT 2 ORDER BY 1", [(1,), (2,)]),
    ("SELECT service FROM events INTERSECT SELECT 'ai'", [("ai",)]),
    ("VALUES (1, 'a'), (2, 'b')", [(1, "a"), (2, "b")]),
    ("SELECT y FROM (VALUES (1, 'a')) AS t(x, y)", [("a",)]),
    ("SELECT i FROM range(-1, 5, 3) AS t(i)", [(-1,), (2,)]),
    (
        "SELECT g.i, count(event_id) FROM generate_series(7, 8) g(i) LEFT JOIN events"
        " ON hour(ts) = g.i GROUP BY 1"
        " ORDER BY 1",
        [(7, 3), (8, 1)],
    ),
    ("SELECT x FROM unnest([3, 4]) AS t(x)", [(3,), (4,)]),
    ("SELECT list_transform([1, 2], lambda x: x + 1), [x * 2 FOR x IN [1, 2] IF x > 1]", [([2, 3], [4])]),
    ("SELECT list_sum(list_filter([1, 2, 3], lambda x: x > 1))", [(5,)]),
    ("SELECT {'a': 1, 'b': [1, 2]}.b[2], map {'k': 5}['k']", [(2, 5)]),
    (
        "SELECT CASE WHEN http_status >= 500 THEN 'bad' ELSE 'ok' END c, count(*) FROM events GROUP"
        " BY c ORDER BY c",
        [("bad", 1), ("ok", 3)],
    ),
    (
        "SELECT coalesce(http_status, 0), nullif(1, 1), greatest(1, 2) FROM events ORDER BY ts DESC LIMIT 1",
        [(0, None, 2)],
    ),
    (
        "SELECT count(*) FROM events WHERE path LIKE '/%' AND path NOT ILIKE '/B' AND path ~ '^/[a-z]$'",
        [(2,)],
    ),
    ("SELECT regexp_extract(path, '/(.)', 1) FROM events WHERE path SIMILAR TO '/b'", [("b",)]),
    (
        "SELECT TRY_CAST('x' AS INTEGER), CAST('1.50' AS DECIMAL(4, 2))::VARCHAR, 7 // 2, 7 % 2, 2 ** 3",
        [(None, "1.50", 3, 1, 8.0)],
    ),
    ("SELECT string_agg(event_id, ',' ORDER BY ts DESC) FROM events", [("e4,e3,e2,e1",)]),
    (
        "SELECT arg_max(event_id, duration_ms), any_value(name), bool_or(status = 'error') FROM events",
        [("e2", "api.request", True)],
    ),
    ("SELECT service, count(*) FROM events GROUP BY ROLLUP (service) ORDER BY 2 DESC LIMIT 1", [(None, 4)]),
    (
        "SELECT * EXCLUDE (attrs) REPLACE (upper(name) AS name) FROM (SELECT name, attrs FROM"
        " events) LIMIT 1",
        [("API.REQUEST",)],
    ),
    (
        "SELECT event_id AS \"we\"\"ird\", 'it''s; DROP TABLE events --' FROM events LIMIT 1",
        [("e1", "it's; DROP TABLE events --")],
    ),
    ("SELECT /* a comment; DROP TABLE events */ 1 -- COPY events TO 'x'", [(1,)]),
    ("SELECT $$text with ' and ; $$", [("text with ' and ; ",)]),
    (
        "SELECT substring('abc' FROM 2 FOR 1), trim(BOTH 'x' FROM 'xax'), position('a' IN 'ba'), 'abc'[1:2]",
        [("b", "a", 2, "ab")],
    ),
    ("SELECT 'é→😀' AS ünï", [("é→😀",)]),
    ("SELECT count(*) FROM events TABLESAMPLE 100%", [(4,)]),
]


@pytest.mark.parametrize(("sql", "answer"), ALLOWED, ids=[sql[:60] for sql, _ in ALLOWED])
def test_allowed_queries_give_right_answers(
    connection: duckdb.DuckDBPyConnection, sql: str, answer: object
) -> None:
    assert run(connection, sql).rows == answer


@pytest.mark.parametrize("sql", [sql for sql, _ in ALLOWED])
def test_what_runs_means_what_was_written(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    ordered = f"SELECT * FROM ({sql.rstrip(';').split(' -- ')[0]}) ORDER BY ALL"
    canonical = f"SELECT * FROM ({guard(sql)}) ORDER BY ALL"
    assert connection.execute(canonical).fetchall() == connection.execute(ordered).fetchall()


@pytest.mark.parametrize("sql", [sql for sql, _ in ALLOWED])
def test_what_was_guarded_is_accepted_again(sql: str) -> None:
    assert guard(guard(sql))


REFUSED = {
    # other statements
    "COPY events TO 'out.csv'": "COPY",
    "COPY (SELECT 1) TO '/dev/stdout'": "COPY",
    "COPY events FROM 'in.csv'": "COPY",
    "ATTACH 'other.db'": "ATTACH",
    "ATTACH ':memory:' AS m": "ATTACH",
    "DETACH m": "DETACH",
    "INSTALL httpfs": "LOAD",
    "LOAD httpfs": "LOAD",
    "FORCE INSTALL httpfs": "LOAD",
    "CREATE TABLE t AS SELECT 1": "CREATE",
    "CREATE TEMP VIEW v AS SELECT 1": "CREATE",
    "CREATE MACRO f() AS 1": "CREATE",
    "CREATE MACRO f() AS TABLE SELECT 1": "CREATE",
    "CREATE SECRET (TYPE s3)": "CREATE",
    "CREATE TYPE t AS ENUM ('a')": "CREATE",
    "DROP TABLE events": "DROP",
    "ALTER TABLE events ADD COLUMN x INT": "ALTER",
    "TRUNCATE events": "DELETE",
    "INSERT INTO events (name) VALUES ('x')": "INSERT",
    "UPDATE events SET name = 'x'": "UPDATE",
    "DELETE FROM events": "DELETE",
    "MERGE INTO events USING (SELECT 1 x) ON false WHEN MATCHED THEN DELETE": "MERGE",
    "WITH a AS (SELECT 1) INSERT INTO events (name) SELECT 'x'": "INSERT",
    "PRAGMA database_list": "not a SELECT",
    "PRAGMA memory_limit='8GB'": "not a SELECT",
    "SET memory_limit = '8GB'": "SET",
    "SET VARIABLE x = 1": "SET",
    "RESET memory_limit": "SET",
    "CALL enable_logging()": "CALL",
    "EXPORT DATABASE 'out'": "EXPORT",
    "IMPORT DATABASE 'out'": "not a SELECT",
    "USE memory": "SET",
    "CHECKPOINT": "not a SELECT",
    "VACUUM": "VACUUM",
    "ANALYZE": "VACUUM",
    "BEGIN": "TRANSACTION",
    "PREPARE p AS SELECT 1": "PREPARE",
    "EXECUTE p": "EXECUTE",
    "DEALLOCATE p": "DROP",
    "EXPLAIN SELECT 1": "EXPLAIN",
    "EXPLAIN ANALYZE SELECT * FROM events": "EXPLAIN",
    "DESCRIBE events": "DESCRIBE",
    "DESCRIBE SELECT 1": "DESCRIBE",
    "SHOW TABLES": "DESCRIBE, SHOW",
    "SHOW ALL TABLES": "DESCRIBE, SHOW",
    "SUMMARIZE events": "SUMMARIZE",
    "SELECT * FROM (DESCRIBE events)": "DESCRIBE",
    "SELECT * FROM (SUMMARIZE events)": "SUMMARIZE",
    "PIVOT events ON name USING count(*)": "PIVOT",
    "SELECT * FROM (PIVOT events ON name USING count(*))": "PIVOT",
    "SELECT * FROM events PIVOT (count(*) FOR name IN ('log'))": "PIVOT",
    "UNPIVOT events ON duration_ms": "PIVOT",
    "SELECT name INTO t FROM events": "syntax error",
    # several statements, and none
    "SELECT 1; SELECT 2": "2 statements",
    "SELECT 1; DROP TABLE events": "DROP",
    "SELECT 1;; DROP TABLE events;": "DROP",
    "SELECT 1 /* */; /* */ COPY events TO 'x'": "COPY",
    "SELECT 1 --\n; ATTACH 'x'": "ATTACH",
    "": "no statement",
    ";": "no statement",
    "-- nothing": "no statement",
    "SELECT": "SELECT clause",
    "SELECT 1 FROM": "syntax error",
    # files and other tables
    "FROM 'file.parquet'": "no table `file.parquet`",
    "SELECT * FROM 'https://example.org/x.csv'": "no table",
    'SELECT * FROM "/etc/passwd"': "no table",
    "SELECT * FROM 'events'.'x'": "syntax error",
    "SELECT * FROM read_csv('x')": "`read_csv`",
    "SELECT * FROM read_csv_auto('x')": "`read_csv_auto`",
    "SELECT * FROM READ_PARQUET(['x'])": "`read_parquet`",
    "SELECT * FROM \"read_parquet\"('x')": "`read_parquet`",
    "SELECT * FROM read_json('x')": "`read_json`",
    "SELECT * FROM read_json_objects('x')": "`read_json_objects`",
    "SELECT * FROM read_ndjson('x')": "`read_ndjson`",
    "SELECT * FROM read_text('x')": "`read_text`",
    "SELECT * FROM read_blob('x')": "`read_blob`",
    "SELECT * FROM read_duckdb('x')": "`read_duckdb`",
    "SELECT * FROM parquet_scan('x')": "`parquet_scan`",
    "SELECT * FROM parquet_metadata('x')": "`parquet_metadata`",
    "SELECT * FROM parquet_schema('x')": "`parquet_schema`",
    "SELECT * FROM parquet_kv_metadata('x')": "`parquet_kv_metadata`",
    "SELECT * FROM sniff_csv('x')": "`sniff_csv`",
    "SELECT * FROM glob('*')": "`glob`",
    "SELECT * FROM query('SELECT 1')": "`query`",
    "SELECT * FROM query_table('events')": "`query_table`",
    "SELECT * FROM json_execute_serialized_sql('{}')": "`json_execute_serialized_sql`",
    "SELECT * FROM duckdb_settings()": "`duckdb_settings`",
    "SELECT * FROM duckdb_secrets()": "`duckdb_secrets`",
    "SELECT * FROM duckdb_tables": "no table",
    "SELECT * FROM sqlite_master": "no table",
    "SELECT * FROM pragma_table_info('events')": "`pragma_table_info`",
    "SELECT * FROM information_schema.tables": "names a schema",
    "SELECT * FROM main.events": "names a schema",
    "SELECT * FROM memory.main.events": "names a schema",
    "SELECT * FROM pg_catalog.pg_class": "names a schema",
    "SELECT * FROM system.main.read_text('x')": "names a schema",
    "SELECT main.sum(1)": "names a schema",
    "SELECT name.upper() FROM events": "names a schema or a method",
    "SELECT * FROM seq_scan('events')": "`seq_scan`",
    "SELECT * FROM repeat_row(1, num_rows = 1000000000)": "`repeat_row`",
    "SELECT (SELECT max(content) FROM read_text('/etc/passwd'))": "`read_text`",
    "SELECT 1 WHERE EXISTS (FROM 'x.csv')": "no table",
    "SELECT * FROM events JOIN 'x.csv' USING (name)": "no table",
    "SELECT * FROM events, LATERAL (SELECT * FROM glob('*'))": "`glob`",
    "SELECT 1 UNION ALL SELECT content FROM read_text('x')": "`read_text`",
    "WITH a AS (FROM 'x.csv') SELECT 1": "no table",
    "WITH sqlite_master AS (SELECT * FROM sqlite_master) SELECT * FROM sqlite_master": "no table",
    "SELECT * FROM (WITH b AS (SELECT 1) FROM b) JOIN b ON true": "no table `b`",
    "WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a": "no table `b`",
    'WITH "x.csv" AS (SELECT 1) SELECT * FROM "x.csv"': "not a plain name",
    "SELECT 1 ORDER BY (SELECT 1 FROM 'x.csv')": "no table",
    "SELECT 1 LIMIT (SELECT count(*) FROM glob('*'))": "`glob`",
    "SELECT sum(1) OVER (ORDER BY getenv('HOME'))": "`getenv`",
    "SELECT count(*) FILTER (WHERE getenv('HOME') = 'x') FROM events": "`getenv`",
    "SELECT [getenv(x) FOR x IN ['HOME']]": "`getenv`",
    "VALUES (getenv('HOME'))": "`getenv`",
    # functions
    "SELECT getenv('HOME')": "`getenv`",
    "SELECT current_setting('memory_limit')": "`current_setting`",
    "SELECT getvariable('x')": "`getvariable`",
    "SELECT current_user": "`current_user`",
    'SELECT "session_user"': "`session_user`",
    "SELECT current_schema()": "`current_schema`",
    "SELECT current_database()": "`current_database`",
    "SELECT current_query()": "`current_query`",
    "SELECT version()": "`version`",
    "SELECT pg_sleep(100)": "`pg_sleep`",
    "SELECT sleep_ms(100000)": "`sleep_ms`",
    "SELECT write_log('x')": "`write_log`",
    "SELECT nextval('s')": "`nextval`",
    "SELECT setseed(0.5)": "`setseed`",
    "SELECT repeat('x', 1000000000)": "`repeat`",
    "SELECT lpad('x', 1000000000, 'y')": "`lpad`",
    "SELECT range(1000000000)": "`range` may only stand in FROM",
    "SELECT unnest(generate_series(1, 1000000000))": "may only stand in FROM",
    "SELECT format('{:1000000000d}', 5)": "`format`",
    "SELECT levenshtein(message, message) FROM events": "`levenshtein`",
    "SELECT list_aggregate([1], 'x'), my_macro(1)": "`my_macro`",
    "SELECT json_serialize_sql('SELECT 1')": "`json_serialize_sql`",
    "SELECT * FROM range(0, 1000000000)": "more than",
    "SELECT * FROM range(0, 10, 0)": "needs integers",
    "SELECT * FROM range((SELECT max(tokens) FROM events))": "needs integers",
    "SELECT * FROM generate_series(0, 'x')": "needs integers",
    "SELECT * FROM main.range(1)": "names a schema",
    # shapes
    "WITH RECURSIVE r AS (SELECT 1 x UNION ALL SELECT x + 1 FROM r) SELECT * FROM r": "recursive",
    "SELECT COLUMNS(c -> c LIKE 'n%') FROM events": "COLUMNS",
    "SELECT COLUMNS('n.*') FROM events": "COLUMNS",
    "SELECT * FROM events POSITIONAL JOIN events": "positional join",
    # disguises
    "ＣＯＰＹ events TO 'x'": "refused",
    "SELECT * FROM ｅvents": "no table",
    "SELECT * FROM read\u200b_text('x')": "refused",
    "SELECT * FROM \"READ_text\" ('x')": "`read_text`",
    "SELECT * FROM eventѕ": "no table",
    "SELECT 1\0; DROP TABLE events": "NUL",
    "SELECT '\ud800'": "not valid Unicode",
    "SELECT ''';DROP TABLE events;--": "refused",
    "SELECT $x$; $y$; DROP TABLE events; $x$ FROM 'f.csv'": "no table",
    "SELECT e'\\'' FROM 'f.csv' -- '": "no table",
}


@pytest.mark.parametrize(("sql", "reason"), REFUSED.items(), ids=[ascii(sql)[:70] for sql in REFUSED])
def test_i16_refused(sql: str, reason: str) -> None:
    with pytest.raises(RefusedSQL) as refusal:
        guard(sql)
    message = str(refusal.value)
    assert message.startswith("refused: ")
    assert reason in message
    assert "\n" not in message
    assert ";" in message  # what to do


def test_comments_do_not_reach_the_engine() -> None:
    assert guard("SELECT 1 /* ; DROP TABLE events */ -- ; COPY events TO 'x'") == "SELECT 1"
    assert guard("SELECT 1 /* /* */ ; DROP TABLE events -- */") == "SELECT 1"


def test_enough_payloads() -> None:
    assert len(REFUSED) >= 60
    assert len(ALLOWED) >= 40


DEEP = {
    "brackets": "SELECT " + "(" * 9000 + "1" + ")" * 9000,
    "not": "SELECT " + "NOT " * 4000 + "true",
    "minus": "SELECT " + "- " * 9000 + "1",
    "plus": "SELECT 1" + " + 1" * 4000,
    "calls": "SELECT " + "abs(" * 3900 + "1" + ")" * 3900,
    "lists": "SELECT " + "[" * 9000 + "1" + "]" * 9000,
    "subqueries": "SELECT * FROM " + "(SELECT * FROM " * 1000 + "events" + ")" * 1000,
    "scalar subqueries": "SELECT " + "(SELECT " * 70 + "1" + ")" * 70,
    "cases": "SELECT " + "CASE WHEN true THEN " * 600 + "1" + " END" * 600,
    "joins": "SELECT * FROM events" + ", events" * 2000,
}


@pytest.mark.parametrize("sql", DEEP.values(), ids=DEEP)
def test_deep_statements_are_refused_quickly(sql: str) -> None:
    with pytest.raises(RefusedSQL, match="nested deeper than 64 levels"):
        guard(sql)


def test_long_statements_are_refused() -> None:
    with pytest.raises(RefusedSQL, match="20001 bytes"):
        guard("SELECT 1" + " " * 19_993)


def test_every_function_that_is_not_listed_is_refused(connection: duckdb.DuckDBPyConnection) -> None:
    names = [row[0] for row in duckdb.sql("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()]
    assert len(names) > 500
    for name in names:
        if name.lower() not in FUNCTIONS:
            with pytest.raises(RefusedSQL):
                guard(f'SELECT "{name}"(1)')
        if name.lower() not in SERIES | {"unnest"}:
            with pytest.raises(RefusedSQL):
                guard(f'SELECT * FROM "{name}"(1)')


def test_every_listed_function_exists() -> None:
    names = {
        row[0].lower()
        for row in duckdb.sql(
            "SELECT function_name FROM duckdb_functions() WHERE function_type NOT IN ('table', 'pragma')"
        ).fetchall()
    }
    bare = {"localtime", "localtimestamp", "current_timestamp", "current_time", "unnest", "->"}
    assert FUNCTIONS - names - bare == set()


@pytest.mark.parametrize("call", sorted(CLOCK))
def test_a_rule_may_not_read_the_clock(call: str) -> None:
    bracketed = f"SELECT {call}()" if call in {"now", "today", "get_current_timestamp"} else f"SELECT {call}"
    assert guard(bracketed)
    with pytest.raises(RefusedSQL, match="must depend on its events"):
        guard(bracketed, deterministic=True)


def test_a_rule_may_not_sample() -> None:
    with pytest.raises(RefusedSQL, match="sample"):
        guard("SELECT count(*) FROM events TABLESAMPLE 10%", deterministic=True)


def test_parameters_by_name(connection: duckdb.DuckDBPyConnection) -> None:
    sql = """
        SELECT :tenant, {name:1, b:tenant_id}.name, 'a:b', "path"[1:2], ':tenant' /* :gone */
        FROM events WHERE tenant_id = :tenant AND ts BETWEEN :from AND $to -- :gone
    """
    values = {"tenant": "8", "from": "2026-01-01", "to": "2027-01-01"}
    assert run(connection, sql, parameters=values).rows == [("8", 1, "a:b", "/b", ":tenant")]


def test_parameters_are_values_not_text(connection: duckdb.DuckDBPyConnection) -> None:
    answer = run(connection, "SELECT count(*) FROM events WHERE name = :n", parameters={"n": "' OR 1=1 --"})
    assert answer.rows == [(0,)]


@given(st.text(max_size=60))
def test_i16_any_text_is_refused_or_guarded(text: str) -> None:
    try:
        statement = guard(text)
    except RefusedSQL:
        return
    assert guard(statement)


FRAGMENTS = [
    "SELECT",
    "*",
    "FROM",
    "events",
    "'x.csv'",
    "read_text",
    "(",
    ")",
    "'a'",
    ";",
    "COPY",
    "TO",
    "1",
    ",",
    "WITH",
    "a",
    "AS",
    "--",
    "/*",
    "*/",
    "\n",
    ":p",
    "$$",
    '"',
    "UNION ALL",
    "glob",
    "[",
    "]",
    "::",
    "INTO",
    "DROP TABLE",
    "count",
    "JOIN",
    "ON",
    "true",
    "WHERE",
    ".",
]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14))
def test_i16_fragments_never_reach_files_or_other_statements(fragments: list[str]) -> None:
    try:
        statement = guard(" ".join(fragments))
    except RefusedSQL:
        return
    (parsed,) = duckdb.extract_statements(statement)
    assert parsed.type == duckdb.StatementType.SELECT
    assert not {name.lower() for name in duckdb.get_table_names(statement)} - {"events", "a"}


def test_columns_types_and_utc_times(connection: duckdb.DuckDBPyConnection) -> None:
    answer = run(connection, "SELECT ts, ts AS ts, 1 AS n, [ts] AS l FROM events ORDER BY ts LIMIT 1")
    assert answer.columns == ["ts", "ts_1", "n", "l"]
    assert answer.types == ["TIMESTAMP WITH TIME ZONE"] * 2 + ["INTEGER", "TIMESTAMP WITH TIME ZONE[]"]
    ((first, second, number, times),) = answer.rows
    assert first == second == times[0]
    assert first.isoformat() == "2026-11-23T07:00:00+00:00"
    assert number == 1


def test_truncated(connection: duckdb.DuckDBPyConnection) -> None:
    exact = run(connection, "SELECT event_id FROM events ORDER BY ts", Limits(rows=4))
    assert (len(exact.rows), exact.truncated) == (4, False)
    cut = run(connection, "SELECT event_id FROM events ORDER BY ts", Limits(rows=3))
    assert (cut.rows, cut.truncated) == ([("e1",), ("e2",), ("e3",)], True)


@pytest.mark.parametrize("rows", [0, -1, 100_001])
def test_row_limits(connection: duckdb.DuckDBPyConnection, rows: int) -> None:
    with pytest.raises(TocsinError, match="1 to 100000 rows"):
        run(connection, "SELECT 1", Limits(rows=rows))


def test_i17_time_limit_and_the_connection_goes_on(connection: duckdb.DuckDBPyConnection) -> None:
    long = "SELECT sum(a.i * b.i) FROM range(1000000) a(i), range(1000000) b(i)"
    started = time.monotonic()
    with pytest.raises(TocsinError, match=r"stopped after 0\.2 s; narrow the time range"):
        run(connection, long, Limits(seconds=0.2))
    assert time.monotonic() - started < 20
    assert run(connection, "SELECT 1").rows == [(1,)]


def test_i17_memory_limit() -> None:
    connection = duckdb.connect(":memory:")
    lock(connection, [], 32 << 20, 1)
    big = "SELECT len(list(a.i * b.i)) FROM range(10000) a(i), range(1000) b(i)"
    with pytest.raises(TocsinError, match="needs more than 32 MiB of memory; narrow"):
        run(connection, big, Limits(memory_bytes=32 << 20))


def test_i17_regular_expressions_take_linear_time(connection: duckdb.DuckDBPyConnection) -> None:
    bomb = "SELECT regexp_matches(string_agg('a', ''), '^(a*)*b$') FROM range(100000)"
    assert run(connection, bomb, Limits(seconds=5)).rows == [(False,)]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT nme FROM events", 'Referenced column "nme" not found'),
        ("SELECT name::INTEGER FROM events", "Conversion Error"),
        ("SELECT :missing", "missing"),
    ],
)
def test_failures_are_one_line(connection: duckdb.DuckDBPyConnection, sql: str, message: str) -> None:
    with pytest.raises(TocsinError, match="the query failed") as failure:
        run(connection, sql)
    assert message in str(failure.value)
    assert "\n" not in str(failure.value)


def test_the_lock_reads_one_directory_only(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside, outside):
        folder.mkdir()
        duckdb.sql("SELECT 'log' AS name").write_parquet(str(folder / "e.parquet"))
    connection = duckdb.connect(":memory:")
    connection.execute(f"CREATE VIEW events AS SELECT * FROM read_parquet('{inside}/*.parquet')")
    lock(connection, [str(inside)], 256 << 20, 1)
    assert run(connection, "SELECT name FROM events").rows == [("log",)]
    for path in (outside, inside / ".." / "out"):
        with pytest.raises(duckdb.PermissionException):
            connection.execute(f"SELECT * FROM read_parquet('{path}/e.parquet')")


@pytest.mark.parametrize(
    "statement",
    [
        "SET memory_limit = '8GB'",
        "RESET memory_limit",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM read_text('/etc/passwd')",
        "COPY (SELECT 1) TO '/tmp/tocsin-x.csv'",
        "ATTACH '/tmp/tocsin-x.db'",
        "SET lock_configuration = false",
        "SELECT * FROM local_variable",
    ],
)
def test_the_lock_alone_refuses(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    local_variable = duckdb.sql("SELECT 1")
    with pytest.raises(duckdb.Error):
        connection.execute(statement)
    assert local_variable is not None
