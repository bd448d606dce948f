"""What other programs' JSON lines mean: one small function each, fields as printed -> canonical fields.

A function may change the mapping that it is given, and returns it. What it does not name stays as it is and
becomes ``attrs``. The table of ``dialects/__init__.py`` says how a dialect is known.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tocsin_server.dialects.levels import otlp_level, syslog_level
from tocsin_server.dialects.line import Fields

_DECIMAL = re.compile(r"\d{1,12}(?:\.\d{1,12})?", re.ASCII)
_MAX_SECONDS = 1e12


def _rename(fields: Fields, **names: str) -> Fields:
    """Moves ``old`` to ``new`` for each ``new=old`` that is present, unless ``new`` is taken."""
    for new, old in names.items():
        if old in fields and fields.get(new) is None:
            fields[new] = fields.pop(old)
    return fields


def _first(fields: Fields, new: str, *olds: str) -> None:
    for old in olds:
        if old in fields and fields.get(new) is None:
            fields[new] = fields.pop(old)


def _inside(fields: Fields, key: str) -> Fields:
    inner = fields.get(key)
    return inner if isinstance(inner, dict) else {}


def canonical(fields: Fields) -> Fields:
    """``{"timestamp":"…","level":"INFO","message":"sync started","service":"k12-core"}``: as it stands."""
    return fields


def generic(fields: Fields) -> Fields:
    """``{"ts":"…","lvl":"WARN","msg":"…","service.name":"x"}``: the usual names of time, level, message,
    service.
    """
    _first(fields, "timestamp", "ts", "time", "@timestamp", "datetime", "date")
    _first(fields, "level", "lvl", "severity", "levelname", "log.level", "loglevel")
    _first(fields, "message", "msg")
    _first(fields, "service", "service.name", "service_name")
    _first(fields, "environment", "env", "deployment.environment")
    return fields


def sidekiq(fields: Fields) -> Fields:
    """``{"ts":"…","pid":1,"tid":"g","lvl":"INFO","msg":"done","ctx":{"class":"J","jid":"b7","elapsed":0.019}}``.

    ``elapsed`` is in seconds.
    """
    fields = generic(fields)
    context = fields.get("ctx")
    if isinstance(context, dict):
        del fields["ctx"]
        fields = {**context, **fields}
    return sidekiq_context(fields)


def sidekiq_context(fields: Fields) -> Fields:
    """Sidekiq's context, in JSON and in text: ``class``, ``jid`` and ``elapsed`` (seconds, as number or
    text).
    """
    duration = _milliseconds(fields.get("elapsed"))
    if duration is not None:
        del fields["elapsed"]
        fields["duration_ms"] = duration
    return _rename(fields, job_class="class", job_id="jid")


def _milliseconds(seconds: Any) -> float | None:
    """Seconds, a number or its text, as milliseconds rounded to the microsecond."""
    if type(seconds) is str and _DECIMAL.fullmatch(seconds):
        seconds = float(seconds)
    if type(seconds) is not float and type(seconds) is not int:
        return None
    return round(seconds * 1000, 3) if seconds < _MAX_SECONDS else None


def bunyan(fields: Fields) -> Fields:
    """``{"name":"api","hostname":"h","pid":1,"level":30,"msg":"handled:
    200","time":"…","req_id":"c","v":0}``.
    """
    fields.pop("v", None)
    return _web_request(_rename(generic(fields), service="name", request_id="req_id"))


def pino(fields: Fields) -> Fields:
    """``{"level":30,"time":1745532517537,"pid":17,"hostname":"h","name":"api","msg":"…","responseTime":3}``."""
    return _web_request(
        _rename(generic(fields), service="name", request_id="reqId", duration_ms="responseTime")
    )


def _web_request(fields: Fields) -> Fields:
    """``req`` and ``res`` as the serializers of Node's loggers print them; the address is cut out of
    ``req``.
    """
    request, response = _inside(fields, "req"), _inside(fields, "res")
    _lift(fields, "method", request, "method")
    _lift(fields, "path", request, "url")
    _lift(fields, "http_status", response, "statusCode")
    return fields


def _lift(fields: Fields, new: str, inner: Fields, old: str) -> None:
    if new not in fields and isinstance(inner.get(old), (str, int)):
        fields[new] = inner.pop(old)


def structlog(fields: Fields) -> Fields:
    """``{"event":"sync started","level":"info","timestamp":"…","logger":"sync"}``: the event is the
    message.
    """
    fields = generic(fields)
    if fields.get("message", fields["event"]) == fields["event"]:
        fields["message"] = fields.pop("event")
    return fields


def python_json_logger(fields: Fields) -> Fields:
    """``{"asctime":"2026-11-23 07:55:12,345","levelname":"INFO","name":"app.sync","message":"…"}``."""
    return generic(_rename(fields, timestamp="asctime", logger="name"))


def loguru(fields: Fields) -> Fields:
    """``{"text":"…","record":{"time":{"timestamp":1.7e9},"level":{"name":"INFO"},"message":"…","extra":{}}}``.

    What was bound (``extra``) is at the top; ``text`` repeats the record and is left out.
    """
    record = fields["record"]
    exception = _inside(record, "exception")
    return {
        **_inside(record, "extra"),
        "timestamp": _inside(record, "time").get("timestamp"),
        "level": _inside(record, "level").get("name"),
        "message": record.get("message"),
        "logger": record.get("name"),
        **{key: record[key] for key in ("function", "line", "module") if key in record},
        **({"error": exception.get("type"), "exception": exception.get("value")} if exception else {}),
    }


def zap(fields: Fields) -> Fields:
    """``{"level":"info","ts":1716723772.6,"logger":"http.log.access","msg":"handled request","status":200}``.

    Caddy prints zap's lines; its access log adds ``request``, ``status`` and ``duration`` in seconds.
    """
    request = fields.get("request")
    if isinstance(request, dict) and "uri" in request:
        _lift(fields, "method", request, "method")
        _lift(fields, "path", request, "uri")
        fields = _rename(fields, http_status="status")
        duration = _milliseconds(fields.get("duration"))
        if duration is not None:
            del fields["duration"]
            fields["duration_ms"] = duration
    return _rename(generic(fields), error="err")


def go_kit(fields: Fields) -> Fields:
    """``{"caller":"main.go:539","level":"info","msg":"…","ts":"2023-12-07T20:07:05.949Z"}``: Prometheus and
    kin.
    """
    return _rename(generic(fields), error="err")


def otlp(fields: Fields) -> Fields:
    """``{"resourceLogs":[{"resource":{…},"scopeLogs":[{"logRecords":[{"timeUnixNano":"1","body":{…}}]}]}]}``.

    One line is one log event: the bodies joined by newlines, the highest severity, the first record's time.
    The other fields of the records are kept in ``records``.
    """
    resource: Fields = {}
    records: list[Fields] = []
    for group in _objects(fields.get("resourceLogs")):
        resource |= _otlp_attributes(_inside(group, "resource").get("attributes"))
        for scope in _objects(group.get("scopeLogs")):
            records += _objects(scope.get("logRecords"))
    bodies = [_otlp_value(record.pop("body", None)) for record in records]
    severity = max((s for r in records if type(s := r.get("severityNumber")) is int), default=0)
    first = next(
        (r[key] for r in records for key in ("timeUnixNano", "observedTimeUnixNano") if r.get(key)), None
    )
    for record in records:
        record["attributes"] = _otlp_attributes(record.get("attributes"))
    texts = [body if isinstance(body, str) else json.dumps(body) for body in bodies if body is not None]
    own = {"level": otlp_level(severity), "message": "\n".join(texts), "records": records, "timestamp": first}
    service, environment = resource.pop("service.name", None), resource.pop("deployment.environment", None)
    return {**resource, **own, "service": service, "environment": environment}


def _objects(value: Any) -> list[Fields]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _otlp_attributes(pairs: Any) -> Fields:
    return {str(pair.get("key")): _otlp_value(pair.get("value")) for pair in _objects(pairs)}


def _otlp_value(value: Any) -> Any:
    """``{"stringValue":"x"}`` -> ``"x"``; lists and maps, too."""
    if not isinstance(value, dict) or not value:
        return None
    kind, inner = next(iter(value.items()))
    if kind == "arrayValue" and isinstance(inner, dict):
        return [_otlp_value(item) for item in _objects(inner.get("values"))]
    if kind == "kvlistValue" and isinstance(inner, dict):
        return _otlp_attributes(inner.get("values"))
    return inner


def docker(fields: Fields) -> tuple[str, Fields]:
    """``{"log":"one line of the program\\n","stream":"stdout","time":"…"}`` -> that line, and the fields
    around it.
    """
    line = str(fields.pop("log"))
    return line.removesuffix("\n").removesuffix("\r"), _rename(fields, timestamp="time")


def journald(fields: Fields) -> tuple[str, Fields]:
    """``{"__REALTIME_TIMESTAMP":"1534860261221373","PRIORITY":"6","SYSLOG_IDENTIFIER":"python","MESSAGE":"…"}``.

    A message that is no UTF-8 comes as a list of bytes.
    """
    message = fields.pop("MESSAGE", "")
    if isinstance(message, list):
        message = bytes(b for b in message if type(b) is int and 0 <= b < 256).decode("utf-8", "replace")
    level = syslog_level(fields.get("PRIORITY"))
    if level is not None:
        del fields["PRIORITY"]
        fields["level"] = level
    return str(message), _rename(fields, timestamp="__REALTIME_TIMESTAMP", service="SYSLOG_IDENTIFIER")
