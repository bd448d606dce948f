"""``tocsin up`` as people run it: a real process, a real socket, real signals."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.tocsin_server.loading import log
from tests.tocsin_server.upping import TOCSIN, running, until
from tocsin_server.clock import iso, real_clock
from tocsin_server.notify.receivers import WebhookReceiver


def test_O1_O12_it_listens_on_the_loopback_and_keeps_its_token_to_itself(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert stat.S_IMODE((server.data / "run.json").stat().st_mode) == 0o600
        assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
        assert server.ask("GET", "/api/v1/status")["healthy"] is True


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_O2_beyond_this_machine_it_needs_a_token(tmp_path: Path, host: str) -> None:
    command = [*TOCSIN, "up", "--host", host, "--port", "0", "--data", str(tmp_path / "data")]
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2
    assert "no token is set: add `listen: {token: {env: TOCSIN_TOKEN}}`" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_D13_sigterm_ends_it_cleanly(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.post(log("the last line"))
        started = time.monotonic()
        assert server.end(signal.SIGTERM) == 0
        assert time.monotonic() - started < 10
        assert not (server.data / "run.json").exists()
        assert not list((server.data / "spool").iterdir())
    assert "the last line" in server.tocsin("query", "SELECT message FROM events").stdout


def test_D14_a_second_server_is_refused_and_the_first_unharmed(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        second = server.tocsin("up", "--port", "0")
        assert second.returncode == 2
        assert f"is being written by process {server.process.pid}" in second.stderr
        assert server.post(log("a"))["stored"] == 1


def test_D1_kill_9_loses_nothing_acknowledged_and_commands_work_on_what_is_left(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        for n in range(20):
            server.post(log(f"line {n}"), **{"Idempotency-Key": f"key-{n}"})
        server.end(signal.SIGKILL)
        count = server.tocsin("query", "SELECT count(*) AS n FROM events", "--json")
        assert json.loads(count.stdout) == [{"n": 20}]
    with running(tmp_path) as again:
        assert again.post(log("line 3"), **{"Idempotency-Key": "key-3"})["stored"] == 1
        count = again.tocsin("query", "SELECT count(*) AS n FROM events", "--json")
        assert json.loads(count.stdout) == [{"n": 20}]


def test_commands_go_through_the_server_that_holds_the_folder(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_bytes(log("from a file") * 3)
    with running(tmp_path) as server:
        loaded = server.tocsin("ingest", "app.log", "--json")
        assert json.loads(loaded.stdout)["logs"] == 3
        assert json.loads(server.tocsin("ingest", "app.log", "--json").stdout)["lines"] == 0
        piped = subprocess.run(
            [*TOCSIN, "ingest", "-", "--source", "pipe", "--data", str(server.data), "--json"],
            input=log("x") + b"{oops\n",
            capture_output=True,
            cwd=tmp_path,
            timeout=60,
            check=True,
        )
        books = json.loads(piped.stdout)
        assert (books["lines"], books["logs"], books["rejected"]) == (2, 1, 1)
        assert (
            server.tocsin("emit", "job.completed", "job_class=PdfExportJob", "status=success").returncode == 0
        )
        assert server.tocsin("deploy", "k12-core", "2026.11.23").returncode == 0
        names = server.tocsin(
            "query", "SELECT name, count(*) AS n FROM events GROUP BY 1 ORDER BY 1", "--json"
        )
        assert json.loads(names.stdout) == [
            {"name": "deploy", "n": 1},
            {"name": "job.completed", "n": 1},
            {"name": "log", "n": 4},
        ]
        assert server.tocsin("alerts", "--fail").returncode == 0
        assert "HighErrorRate" in server.tocsin("why", "HighErrorRate").stdout
        assert server.tocsin("why", "NoSuchAlert").returncode == 2
        assert server.tocsin("status").returncode == 0
        assert "no incident" in server.tocsin("incident", "list").stdout
        assert "deployment-rollback" in server.tocsin("runbook", "list").stdout
        added = server.tocsin("silence", "add", "service=core", "--until", "2099-01-01", "--comment", "test")
        assert added.returncode == 0, added.stderr
        assert 'service="core"' in server.tocsin("silence", "list").stdout


def test_the_same_commands_work_when_no_server_runs(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.post(log("a"))
        assert server.end() == 0
        assert "HighErrorRate" in server.tocsin("why", "HighErrorRate").stdout
        assert "Watchdog" in server.tocsin("alerts").stdout
        assert server.tocsin("emit", "job.completed", "job_class=A").returncode == 0
        count = server.tocsin("query", "SELECT count(*) AS n FROM events", "--json")
        assert json.loads(count.stdout) == [{"n": 2}]


def test_rules_are_read_again_when_they_change_and_faults_are_shown(tmp_path: Path) -> None:
    rules = tmp_path / "ops" / "alerts"
    rules.mkdir(parents=True)
    text = "alerts:\n  - {alert: One, severity: info, when: {count: {event: x, above: 1, over: 5m}}}\n"
    (rules / "a.yaml").write_text(text)
    with running(tmp_path) as server:

        def named() -> set[str]:
            return {rule["alert"] for rule in server.ask("GET", "/api/v1/alerts")["rules"]}

        assert named() == {"One"}
        (rules / "a.yaml").write_text(text.replace("One", "Other"))
        until(lambda: named() == {"Other"})
        (rules / "a.yaml").write_text("alerts: [\n")
        until(lambda: not server.ask("GET", "/api/v1/status")["healthy"])
        assert named() == {"Other"}
        assert "a.yaml" in server.tocsin("status").stdout


def test_an_alert_fires_evidence_is_there_and_somebody_is_told(tmp_path: Path) -> None:
    with WebhookReceiver() as receiver:

        def told() -> list[str]:  # the Watchdog is told, too, whenever its group has waited
            alerts = (one.body["groupLabels"]["alertname"] for one in receiver.ledger)
            return [alert for alert in alerts if alert != "Watchdog"]

        (tmp_path / "app.log").touch()
        (tmp_path / "tocsin.yaml").write_text(
            f"sources: [{{file: app.log, service: core}}]\n"
            "notify:\n"
            f"  channels: {{chat: {{webhook: {{url: '{receiver.url}'}}}}}}\n"
            "  routes: [{to: [chat]}]\n"
        )
        with running(tmp_path) as server:
            now = iso(real_clock())
            line = {"metric": "api.request", "timestamp": now, "service": "core", "environment": "test"}
            with (tmp_path / "app.log").open("a") as file:
                for status in [200] * 20 + [500] * 10:
                    file.write(json.dumps(line | {"tags": {"status": status, "duration_ms": 3}}) + "\n")
            incidents = until(lambda: json.loads(server.tocsin("incident", "list", "--json").stdout), 60)
            assert incidents[0]["severity"] == "critical"
            until(told, 30)
            assert json.loads(server.tocsin("alerts", "--fail", "--json").stdout)
            assert server.tocsin("alerts", "--fail").returncode == 1
            shown = json.loads(server.tocsin("incident", "show", str(incidents[0]["id"]), "--json").stdout)
            assert {run["runbook"] for run in shown["runs"]} == {"deployment-rollback", "database-issues"}
            assert shown["evidence"]
            exported = server.tocsin("incident", "export", str(incidents[0]["id"])).stdout
            assert "High Error Rate" in exported
            assert server.tocsin("incident", "ack", "1", "--who", "ada").returncode == 0
            server.end(signal.SIGKILL)
        before = told()
        with running(tmp_path) as again:  # row E4: a restart tells nobody what they know
            assert (
                json.loads(again.tocsin("incident", "list", "--json").stdout)[0]["status"] == "acknowledged"
            )
            until(lambda: again.ask("GET", "/api/v1/status")["evaluated_at"], 30)
            assert told() == before
