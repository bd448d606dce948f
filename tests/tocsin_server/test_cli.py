"""The ``tocsin`` command: exit codes, the JSON that people script against, errors of one line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from loading import log, pipe, request

from tocsin_server.cli import main
from tocsin_server.spool import segments
from tocsin_server.store import Store

SAMPLES = Path(__file__).parents[1] / "data"
RAILS = [str(SAMPLES / "rails" / name) for name in ("web.log", "worker.log")]


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Answer]


@pytest.fixture
def tocsin(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOCSIN_DATA", raising=False)

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["tocsin", *map(str, arguments)])
        code = main()
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture
def refused(tocsin: Run) -> Run:
    """Runs a command that must be refused: exit code 2, nothing on stdout, one line on stderr."""

    def run(*arguments: object) -> Answer:
        answer = tocsin(*arguments)
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.startswith("tocsin: ")
        assert answer.err.count("\n") == 1, answer.err
        return answer

    return run


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_bytes(log("a") + request() + request(500) + b"\n{broken\n")
    return path


# ---- ingest --------------------------------------------------------------------------------------


def test_ingest_prints_the_books(tocsin: Run, log_file: Path) -> None:
    answer = tocsin("ingest", log_file, "--json")
    assert answer.code == 0
    seconds = answer.json.pop("seconds")
    assert {key: value for key, value in answer.json.items() if key != "seconds"} == {
        "lines": 5,
        "events": {"api.request": 2},
        "logs": 1,
        "rejected": 1,
        "duplicates": 0,
        "blank": 1,
        "bytes": log_file.stat().st_size,
        "dialects": {"canonical": 3},
    }
    assert 0 <= seconds < 60
    again = tocsin("ingest", log_file, "--json").json
    assert (again["lines"], again["events"], again["bytes"]) == (0, {}, 0)


def test_ingest_says_in_words_what_it_did(tocsin: Run, log_file: Path) -> None:
    assert "5 lines: 2 events, 1 logs, 1 rejected" in tocsin("ingest", log_file).out
    assert "loaded already" in tocsin("ingest", log_file).out


def test_ingest_of_the_recorded_rails_lines_counts_as_the_independent_script(tocsin: Run) -> None:
    truth = json.loads((SAMPLES / "rails" / "truth.json").read_text())["events"]
    answer = tocsin("ingest", *RAILS, "--json").json
    assert (answer["lines"], answer["blank"], answer["rejected"]) == (5379, 2, 0)
    assert {name: answer["events"][name] for name in truth} == truth
    rows = tocsin("query", "SELECT count(*) AS n FROM events", "--json").json
    assert rows == [{"n": 5377}]


def test_ingest_of_a_missing_file_a_folder_and_a_compressed_file(
    refused: Run, tmp_path: Path, log_file: Path
) -> None:
    assert (
        "cannot read absent.log: No such file or directory; check the path"
        in refused("ingest", "absent.log").err
    )
    assert "is a directory: name the files in it" in refused("ingest", tmp_path).err
    packed = tmp_path / "app.log.gz"
    packed.write_bytes(gzip.compress(log_file.read_bytes()))
    assert f"`zcat {packed} | tocsin ingest - --source NAME`" in refused("ingest", packed).err


def test_nothing_is_loaded_when_one_of_the_paths_cannot_be_read(
    tocsin: Run, tmp_path: Path, log_file: Path
) -> None:
    assert tocsin("ingest", log_file, "absent.log").code == 2
    assert not (tmp_path / "tocsin-data").exists()


def test_ingest_without_a_path_and_an_unknown_option_are_wrong_use(refused: Run) -> None:
    assert "--help" in refused("ingest").err
    assert "--colour" in refused("ingest", "x", "--colour").err


def test_D8_a_data_folder_that_cannot_be_written_is_one_line(refused: Run, log_file: Path) -> None:
    assert "choose one with --data" in refused("ingest", log_file, "--data", log_file / "x").err


def test_D6_a_failing_disk_is_one_line(refused: Run, log_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in refused("ingest", log_file, "--data", "other").err


def tocsin_process(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    code = "import sys; from tocsin_server.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_T13_ingest_of_a_pipe_keeps_the_last_line_without_newline(tmp_path: Path) -> None:
    with tocsin_process("ingest", "-", "--data", tmp_path / "d", "--json", stdin=subprocess.PIPE) as process:
        out, err = process.communicate(log("a") + request() + b"the end")
    assert (process.returncode, err) == (0, b"")
    assert json.loads(out)["lines"] == 3


def test_D13_ingest_told_to_stop_stores_what_it_read(tmp_path: Path) -> None:
    data = tmp_path / "d"
    with tocsin_process("ingest", "-", "--data", data, "--json", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(log("a") + b"half")
        process.stdin.flush()
        while process.poll() is None and not any(p.stat().st_size for p in data.glob("spool/*.ndjson")):
            pass
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert json.loads(out)["logs"] == 2


# ---- query ---------------------------------------------------------------------------------------


@pytest.fixture
def loaded(tocsin: Run, log_file: Path) -> Run:
    assert tocsin("ingest", log_file).code == 0
    return tocsin


def test_query_answers_an_array_of_objects(loaded: Run) -> None:
    answer = loaded("query", "SELECT name, count(*) AS n FROM events GROUP BY ALL ORDER BY n", "--json")
    assert (answer.code, answer.json) == (0, [{"name": "log", "n": 1}, {"name": "api.request", "n": 2}])
    assert loaded("query", "SELECT 1 AS one FROM events LIMIT 1", "--format", "json").json == [{"one": 1}]


def test_query_answers_csv_and_a_table(loaded: Run) -> None:
    sql = "SELECT http_status, message FROM events ORDER BY 1 NULLS LAST"
    rows = list(csv.reader(io.StringIO(loaded("query", sql, "--format", "csv").out)))
    assert rows == [["http_status", "message"], ["200", ""], ["500", ""], ["", "a"]]
    table = loaded("query", sql).out
    assert "http_status" in table
    assert "500" in table


def test_query_limits_its_rows(loaded: Run) -> None:
    assert len(loaded("query", "SELECT * FROM events", "--limit", 2, "--json").json) == 2


REFUSED = [
    "COPY events TO 'x.csv'",
    "COPY (SELECT 1) TO 'x.parquet'",
    "ATTACH 'x.db'",
    "CREATE TABLE x AS SELECT 1",
    "DROP VIEW events",
    "INSERT INTO events SELECT * FROM events",
    "PRAGMA database_list",
    "SET threads = 1",
    "INSTALL httpfs",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_parquet('x')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM duckdb_settings()",
    "SELECT 1; SELECT 2",
    "EXPLAIN SELECT 1",
    "",
]


@pytest.mark.parametrize("sql", REFUSED)
def test_query_refuses_what_is_not_one_select(refused: Run, tmp_path: Path, sql: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert "refused" in refused("query", sql).err
    assert sorted(tmp_path.rglob("*")) == before


def test_query_of_a_missing_column_and_a_missing_folder(refused: Run, loaded: Run) -> None:
    assert "nonsense" in refused("query", "SELECT nonsense FROM events").err
    assert "no data in absent: load some with" in refused("query", "SELECT 1", "--data", "absent").err
    assert not Path("absent").exists()


def test_D1_query_sees_what_a_killed_stream_left_in_the_spool(tocsin: Run, tmp_path: Path) -> None:
    data = tmp_path / "d"
    with tocsin_process("ingest", "-", "--data", data, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(log("a") + log("b"))
        process.stdin.flush()
        while process.poll() is None and not any(p.stat().st_size for p in data.glob("spool/*.ndjson")):
            pass
        count = ("query", "SELECT count(*) AS n FROM events", "--data", data, "--json")
        assert tocsin(*count).json == [{"n": 0}]  # somebody writes: those lines are theirs
        assert f"is being written by process {process.pid}" in tocsin("ingest", RAILS[0], "--data", data).err
        process.kill()
        process.wait()
        assert len(segments(data / "spool")) == 1
        assert tocsin(*count).json == [{"n": 2}]
        assert segments(data / "spool") == []


# ---- the data folder -----------------------------------------------------------------------------


def test_data_folder_is_the_option_else_the_variable_else_the_settings_else_the_default(
    tocsin: Run, log_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folders() -> set[str]:
        return {path.parent.name for path in Path().glob("*/manifest.db")}

    tocsin("ingest", log_file)
    assert folders() == {"tocsin-data"}
    Path("tocsin.yaml").write_text("data: ./by-settings\n")
    tocsin("ingest", log_file)
    assert folders() == {"tocsin-data", "by-settings"}
    monkeypatch.setenv("TOCSIN_DATA", "by-variable")
    tocsin("ingest", log_file)
    assert folders() == {"tocsin-data", "by-settings", "by-variable"}
    tocsin("ingest", log_file, "--data", "by-option")
    assert folders() == {"tocsin-data", "by-settings", "by-variable", "by-option"}
    assert tocsin("query", "SELECT count(*) n FROM events", "--data", "by-option", "--json").json == [
        {"n": 3}
    ]


def test_a_data_folder_behind_a_link_and_with_a_quote_in_its_name(tocsin: Run, log_file: Path) -> None:
    Path("it's real").mkdir()
    Path("link").symlink_to("it's real")
    for data in ("link", "it's real", Path("link").resolve()):
        assert tocsin("ingest", log_file, "--data", data).code == 0
        assert tocsin("query", "SELECT count(*) AS n FROM events", "--data", data, "--json").json == [
            {"n": 3}
        ]


# ---- check ---------------------------------------------------------------------------------------

BROKEN_RULES = """\
alerts:
  - alert: TooSlow
    severity: urgent
    when:
      count: {event: api.request, above: 5, over: 5 minutes}
  - alert: TooSlow
    when: {}
"""


def test_check_of_what_is_shipped_is_clean(tocsin: Run) -> None:
    answer = tocsin("check", "--json")
    assert (answer.code, answer.json) == (0, {"faults": []})
    assert tocsin("check").out == ""


def test_check_says_every_fault_with_its_line(tocsin: Run, tmp_path: Path) -> None:
    (tmp_path / "alerts").mkdir()
    (tmp_path / "alerts" / "broken.yaml").write_text(BROKEN_RULES)
    (tmp_path / "tocsin.yaml").write_text("dta: x\nlisten: {port: 99999}\n")
    answer = tocsin("check", tmp_path, "--json")
    assert answer.code == 1
    faults = answer.json["faults"]
    assert all(fault.keys() == {"file", "line", "message", "hint"} for fault in faults)
    lines = {(Path(fault["file"]).name, fault["line"]) for fault in faults}
    assert lines >= {("tocsin.yaml", 1), ("tocsin.yaml", 2)}
    assert lines >= {("broken.yaml", 3), ("broken.yaml", 5), ("broken.yaml", 6), ("broken.yaml", 7)}
    text = tocsin("check", tmp_path)
    assert text.code == 1
    assert len(text.out.splitlines()) == len(faults)
    assert f"{len(faults)} faults" in text.err


def test_check_of_a_missing_file_is_a_fault_or_refused(tocsin: Run) -> None:
    answer = tocsin("check", "absent.yaml")
    assert answer.code in (1, 2)
    assert "absent.yaml" in answer.out + answer.err


# ---- doctor --------------------------------------------------------------------------------------


def test_doctor_on_the_recorded_rails_lines(tocsin: Run) -> None:
    answer = tocsin("doctor", *RAILS, "--json")
    assert answer.code == 0
    found = answer.json
    assert {"lines", "understood", "dialects", "events", "alerts", "examples"} <= found.keys()
    assert (found["lines"], found["understood"]) == (5379, 5377)
    assert found["alerts"]["HighErrorRate"] == {"ready": True, "missing": []}
    gateway = found["alerts"]["AIGatewayDown"]
    assert gateway["ready"] is False
    assert "health.check" in gateway["missing"][0]
    assert not Path("tocsin-data").exists()


def test_doctor_on_every_dialect(tocsin: Run) -> None:
    samples = sorted((SAMPLES / "dialects").iterdir())
    found = tocsin("doctor", *samples, "--json").json
    data = b"".join(path.read_bytes() for path in samples)
    assert found["lines"] == found["understood"] + found["rejected"] + found["duplicates"] + found["blank"]
    assert found["lines"] >= data.count(b"\n")
    assert {"bunyan", "pino", "docker", "otlp"} <= found["dialects"].keys()
    assert len(found["examples"]) <= 5
    for example in found["examples"]:
        assert example.keys() == {"source", "position", "reason", "text"}


def test_doctor_says_in_words_what_it_found(tocsin: Run, log_file: Path) -> None:
    answer = tocsin("doctor", log_file)
    assert answer.code == 0
    assert "3 of 5 lines understood" in answer.out
    assert "HighErrorRate" in answer.out
    assert "malformed" in answer.out


# ---- backtest ------------------------------------------------------------------------------------


@pytest.fixture
def outage(tmp_path: Path) -> Path:
    """Five minutes of requests of which half fail, then nothing."""
    path = tmp_path / "outage.log"
    path.write_bytes(
        b"".join(
            request(
                500 if second % 2 else 200,
                f"2026-11-23T07:5{minute}:{second:02d}.000Z",
                environment="production",
            )
            for minute in range(5)
            for second in range(0, 60, 3)
        )
    )
    return path


def test_backtest_prints_the_episodes(tocsin: Run, outage: Path) -> None:
    answer = tocsin("backtest", outage, "--json")
    assert answer.code == 0
    assert answer.json.keys() == {"from", "to", "evaluations", "episodes"}
    assert answer.json["from"] == "2026-11-23T07:50:00Z"
    (episode,) = [one for one in answer.json["episodes"] if one["alert"] == "HighErrorRate"]
    assert episode.keys() == {"alert", "labels", "pending_at", "fired_at", "resolved_at", "value"}
    assert episode["labels"] == {"service": "core", "environment": "production"}
    assert episode["value"] == pytest.approx(0.5, abs=0.05)
    assert not Path("tocsin-data").exists()


def test_backtest_of_the_data_folder_and_of_its_files_is_the_same(tocsin: Run, outage: Path) -> None:
    tocsin("ingest", outage)
    assert tocsin("backtest", "--json").json == tocsin("backtest", outage, "--json").json


def test_backtest_from_and_to(tocsin: Run, refused: Run, outage: Path) -> None:
    bounds = ("--from", "2026-11-23T07:40:00Z", "--to", "2026-11-23T07:51:00+00:00")
    found = tocsin("backtest", outage, *bounds, "--json").json
    assert (found["from"], found["to"]) == ("2026-11-23T07:40:00Z", "2026-11-23T07:51:00Z")
    assert "--from 'yesterday' is no time" in refused("backtest", outage, "--from", "yesterday").err


def test_backtest_without_data_or_rules_is_refused(refused: Run, outage: Path) -> None:
    assert "no data in tocsin-data" in refused("backtest").err
    Path("rules.yaml").write_text(BROKEN_RULES)
    assert "rules.yaml:" in refused("backtest", outage, "--rules", "rules.yaml").err


def test_backtest_says_in_words_what_fired(tocsin: Run, outage: Path) -> None:
    answer = tocsin("backtest", outage)
    assert answer.code == 0
    assert "HighErrorRate" in answer.out


# ---- all of it -----------------------------------------------------------------------------------


def test_version_help_and_no_command(tocsin: Run) -> None:
    assert tocsin("--version").out.startswith("tocsin ")
    answer = tocsin("ingest", "--help")
    assert (answer.code, "--source" in answer.out) == (0, True)
    assert tocsin().code == 2


def test_an_unknown_command_is_one_line(refused: Run) -> None:
    assert "inject" in refused("inject").err


def test_O19_control_characters_of_a_line_reach_no_terminal(tocsin: Run, tmp_path: Path) -> None:
    path = tmp_path / "evil\x1b[31m.log"
    path.write_bytes(log("a\x1b[2Jb\u202e") + b"{\x1b[2J\n")
    tocsin("ingest", path)
    printed = [
        tocsin("query", "SELECT message, source FROM events").out,
        tocsin("query", "SELECT message, source FROM events", "--format", "csv").out,
        tocsin("query", "SELECT message, source FROM events", "--json").out,
        tocsin("doctor", path).out,
        tocsin("doctor", path, "--json").out,
        tocsin("ingest", tmp_path / "absent\x1b[31m").err,
    ]
    assert [text for text in printed if "\x1b" in text or "\u202e" in text] == []


def test_ingest_reads_standard_input_of_this_process(tocsin: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.dup(0)
    try:
        with pipe([log("a") + b"text"]) as reader:
            os.dup2(reader, 0)
            assert tocsin("ingest", "-", "--service", "web", "--source", "app", "--json").json["logs"] == 2
    finally:
        os.dup2(before, 0)
        os.close(before)
    store = Store.open(Path("tocsin-data"))
    assert store.manifest.source("app")[0] == len(log("a") + b"text")
    store.close()
