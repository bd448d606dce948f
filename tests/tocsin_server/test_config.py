"""``tocsin.yaml``: the normative shape loads, every fault has its line, and no secret stands in the file."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_server.config import Secret, Settings, check_settings, data_dir, load_settings, parse_size
from tocsin_server.errors import FaultsError, TocsinError

DAY_US = 86_400_000_000

WHOLE = """\
data: ./tocsin-data
listen: {host: 127.0.0.1, port: 8642}
sources:
  - {file: "/var/log/k12/*.log", service: k12-core}
expect: [k12-core, k12-ai-gateway]         # services whose silence is an alert
probes:
  - {http: "https://gateway.internal/v1/health", target: ai-gateway, every: 30s, expect: {status: 200, \
json: {status: ok}}, headers: {Authorization: {env: GATEWAY_TOKEN}}}
connections:
  core_ro: {postgresql: {env: CORE_RO_URL}, auto: true}
  core: {http: "https://core.example.org", auto: true}
notify:
  channels: {oncall: {email: {to: oncall@example.org, smtp: {env: SMTP_URL}}}}
  routes: [{severity: critical, to: [oncall]}]
retention: {raw: 30d, max_bytes: 20GB}
"""

BROKEN = """\
dta: ./x
listen:
  host: ""
  port: "8642"
  prot: 1
sources:
  - {service: k12-core}
  - file: 7
expect: k12
probes:
  - http: "ftp://x"
    target: a b
    every: 30
    expect: {status: 20, jsn: {}}
    headers:
      Authorization: Bearer hunter2
      X-Api-Key: hunter2
      Accept: "text/plain\\n"
  - http: "https://u:hunter2@x/"
    target: t
    every: 10ms
connections:
  a: {auto: yes}
  b: {postgresql: "postgres://u:hunter2@h/d"}
  c: {postgresql: {env: A, file: b}}
  d: {postgresql: {env: A}, http: "https://x.org"}
notify:
  channels:
    oncall: {email: {to: nobody, smtp: "smtp://u:hunter2@h"}}
    slack: {slack: x}
  routes:
    - {severity: sev1, to: [oncal]}
    - {to: []}
retention:
  raw: 3h
  max_bytes: 20 parsecs
"""

FAULTS = [
    (1, "unknown key `dta`", "did you mean `data`?"),
    (3, "`host`", ""),
    (4, "`port`", ""),
    (5, "unknown key `prot`", "did you mean `port`?"),
    (7, "`file` is missing", ""),
    (8, "`file`: should be a path", "text"),
    (9, "`expect`", ""),
    (11, "`http`: is not an http", "https://"),
    (12, "`target`: is not a name", "letters"),
    (13, "`every`: `30` is not a duration", "30s"),
    (14, "`status`", ""),
    (14, "unknown key `jsn`", "did you mean `json`?"),
    (16, "`Authorization`: a secret may not stand", "{env: NAME}"),
    (17, "`X-Api-Key`: a secret may not stand", "{env: NAME}"),
    (18, "`Accept`: holds a character", "ASCII"),
    (19, "`http`: holds a password", "headers"),
    (21, "`every`: is shorter than 1s", "1s or longer"),
    (23, "`auto`", ""),
    (24, "`postgresql`: a secret may not stand", "{env: NAME}"),
    (25, "`postgresql`: needs either `env` or `file`", "{env: NAME}"),
    (26, "`d`: needs either `postgresql` or `http`", "one of them"),
    (29, "`smtp`: a secret may not stand", "{env: NAME}"),
    (29, "`to`: is not one e-mail address", "oncall@"),
    (30, "unknown key `slack`", ""),
    (32, "`severity`", ""),
    (32, "there is no channel `oncal`", "did you mean `oncall`?"),
    (33, "`to`", ""),
    (35, "`raw`: is shorter than 1d", "1d or longer"),
    (36, "`max_bytes`: `20 parsecs` is not a size", "20GB"),
]


def written(folder: Path, text: str) -> Path:
    path = folder / "tocsin.yaml"
    path.write_text(text)
    return path


def test_the_whole_shape(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    assert check_settings(path) == []
    settings = load_settings(path)
    assert settings.data == tmp_path / "tocsin-data"
    assert (settings.listen.host, settings.listen.port) == ("127.0.0.1", 8642)
    assert [(str(s.file), s.service) for s in settings.sources] == [("/var/log/k12/*.log", "k12-core")]
    assert settings.expect == ["k12-core", "k12-ai-gateway"]
    (probe,) = settings.probes
    assert (probe.target, probe.every) == ("ai-gateway", 30_000_000)
    assert (probe.expect.status, probe.expect.json_members) == (200, {"status": "ok"})
    assert probe.headers == {"Authorization": Secret(env="GATEWAY_TOKEN")}
    assert settings.connections["core_ro"].postgresql == Secret(env="CORE_RO_URL")
    assert settings.connections["core"].auto is True
    assert settings.notify.channels["oncall"].email.smtp == Secret(env="SMTP_URL")
    assert settings.notify.routes[0].to == ["oncall"]
    assert settings.retention.raw == 30 * DAY_US
    assert settings.retention.max_bytes == 20_000_000_000


def test_all_faults_at_once_with_lines_and_hints(tmp_path: Path) -> None:
    path = written(tmp_path, BROKEN)
    faults = check_settings(path)
    assert [fault.line for fault in faults] == [line for line, _, _ in FAULTS]
    for fault, (_, message, hint) in zip(faults, FAULTS, strict=True):
        assert fault.file == str(path)
        assert fault.message.startswith(message)
        assert hint in fault.hint


def test_faults_never_repeat_a_secret(tmp_path: Path) -> None:
    path = written(tmp_path, BROKEN)
    assert "hunter2" not in "".join(map(str, check_settings(path)))
    with pytest.raises(FaultsError) as error:
        load_settings(path)
    assert "hunter2" not in repr(error.value)
    assert len(error.value.faults) == len(FAULTS)


@pytest.mark.parametrize(
    "text", ["[1, 2]", "data: [", "just text", "data: a\ndata: b", "notify: 5", "probes: [5]", "\x07"]
)
def test_other_shapes_are_faults_not_crashes(tmp_path: Path, text: str) -> None:
    assert check_settings(written(tmp_path, text))


def test_missing_file_is_a_fault(tmp_path: Path) -> None:
    (fault,) = check_settings(tmp_path / "none.yaml")
    assert "cannot be read" in fault.message


def test_routes_without_channels(tmp_path: Path) -> None:
    (fault,) = check_settings(written(tmp_path, "notify:\n  routes:\n    - to:\n        - oncall\n"))
    assert (fault.line, fault.message) == (4, "there is no channel `oncall`")


@pytest.mark.parametrize("name", ["Authorization", "cookie", "X-Auth-Token", "x-client-secret", "ApiKey"])
def test_headers_whose_name_says_secret(tmp_path: Path, name: str) -> None:
    text = f"probes:\n- http: http://x\n  target: x\n  headers:\n    {name}: abc\n"
    (fault,) = check_settings(written(tmp_path, text))
    assert (fault.line, fault.hint) == (5, "write {env: NAME} or {file: PATH}")


# --- Where things are


def test_defaults_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(None) == Settings()
    assert data_dir(environ={}) == Path("tocsin-data")


def test_the_default_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "data: elsewhere\nlisten: {port: 9000}\n")
    assert load_settings(None).listen.port == 9000
    assert data_dir(environ={}) == Path("elsewhere")


def test_data_dir_order(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, "data: in-settings"))
    environ = {"TOCSIN_DATA": "/in/environment"}
    assert data_dir(Path("argument"), settings, environ) == Path("argument")
    assert data_dir(None, settings, environ) == Path("/in/environment")
    assert data_dir(None, settings, {"TOCSIN_DATA": ""}) == tmp_path / "in-settings"


def test_secrets_are_read_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from a file\n")
    assert Secret(file=tmp_path / "token").read({}) == "from a file"
    assert Secret(env="TOKEN").read({"TOKEN": "from the environment"}) == "from the environment"


def test_missing_secrets_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TocsinError, match="environment variable TOKEN is not set; set it"):
        Secret(env="TOKEN").read({})
    with pytest.raises(TocsinError, match="cannot be read or is empty; write the secret"):
        Secret(file=tmp_path / "none").read({})


# --- Sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0B", 0),
        ("512B", 512),
        ("1kB", 1000),
        ("500MB", 500_000_000),
        ("20 GB", 20 * 10**9),
        ("16GiB", 1 << 34),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "20", "GB", "-1GB", "1.5GB", "20gb", "20G", "1e9B", "٣GB", "20GB "])
def test_not_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@given(st.text(max_size=8))
def test_sizes_never_crash(text: str) -> None:
    with suppress(ValueError):
        assert parse_size(text) >= 0
