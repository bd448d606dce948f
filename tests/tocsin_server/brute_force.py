"""The seven alerts once more, written apart from the product, straight from the text of the semantics.

No import from the product, no SQL, no buckets, no rule files: a list of events, a loop over instants, and
for each instant a look at every event. Slow and plain on purpose. Times are whole microseconds; an event is a
dict with ``ts``, ``name`` and its fields, ``event_id`` among them.
"""

MINUTE = 60 * 1_000_000
HALF_MINUTE = 30 * 1_000_000
DAY = 24 * 60 * MINUTE

# alert: (for, keep_firing_for, identity labels)
TABLE = {
    "HighErrorRate": (0, 2 * MINUTE, ("service", "environment")),
    "SlowResponses": (5 * MINUTE, 5 * MINUTE, ("service", "environment")),
    "JobQueueDepth": (10 * MINUTE, 5 * MINUTE, ("service", "environment")),
    "AIGatewayDown": (0, 2 * MINUTE, ("service", "environment", "target")),
    "SyncFailures": (0, 0, ("environment",)),
    "DiskUsage": (5 * MINUTE, 15 * MINUTE, ("service", "environment", "volume")),
    "AuthFailures": (0, 5 * MINUTE, ("environment",)),
}

NOT_REAL_TRAFFIC = ("/up", "/api/v1/health", "/v1/health")
LONG_BY_DESIGN = ("/api/v1/ai/stream", "/api/v1/ai_invocations")


def is_relevant(alert, e):
    """Is this the alert's event, after its exclusions?"""
    if alert in ("HighErrorRate", "SlowResponses"):
        if e["name"] != "api.request" or e.get("probe") is True:
            return False
        if e.get("route") in NOT_REAL_TRAFFIC or e.get("path") in NOT_REAL_TRAFFIC:
            return False
        if e.get("controller") == "rails/health":
            return False
        if alert == "HighErrorRate":
            return True
        if e.get("streaming") is True or e.get("controller") in ("api/v1/ai_stream", "api/v1/ai_invocations"):
            return False
        return e.get("route") not in LONG_BY_DESIGN and e.get("path") not in LONG_BY_DESIGN
    if alert == "JobQueueDepth":
        return e["name"] == "job.queue"
    if alert == "AIGatewayDown":
        return e["name"] == "health.check" and (e.get("target") or "").startswith("ai-gateway")
    if alert == "SyncFailures":
        return e["name"] == "sync.run"
    if alert == "DiskUsage":
        return e["name"] == "db.disk"
    return e["name"] == "auth.login"


def identity(alert, e):
    return tuple((label, str(e.get(label) or "")) for label in TABLE[alert][2])


def in_window(events, t, length):
    return [e for e in events if t - length < e["ts"] <= t]


def newest(events):
    return max(events, key=lambda e: (e["ts"], e["event_id"]))


def has_fallen_silent(service, everything, t):
    """It promised heartbeats (it ever sent one) and nothing of any kind came for 3 minutes."""
    mine = [e for e in everything if (e.get("service") or "") == service and e["ts"] <= t]
    promised = any(e["name"] == "log.heartbeat" for e in mine)
    return promised and not in_window(mine, t, 3 * MINUTE)


def nothing_means_unknown(alert, labels, everything, t):
    """No rows: is that the truth (False), or has the sender fallen silent (True)?"""
    labels = dict(labels)
    if "service" in labels:
        return has_fallen_silent(labels["service"], everything, t)
    past = [e for e in everything if e["ts"] <= t]
    promising = {e.get("service") or "" for e in past if e["name"] == "log.heartbeat"}
    watched = {
        e.get("service") or ""
        for e in past
        if is_relevant(alert, e) and (e.get("environment") or "") == labels["environment"]
    } & promising
    return bool(watched) and all(has_fallen_silent(service, everything, t) for service in watched)


def condition(alert, labels, mine, everything, t):
    """(True, False or None for unknown; the value)."""
    if alert in ("HighErrorRate", "SlowResponses"):
        window = in_window(mine, t, 5 * MINUTE if alert == "HighErrorRate" else MINUTE)
        if not window:
            return (None if nothing_means_unknown(alert, labels, everything, t) else False), None
        if alert == "HighErrorRate":
            bad = sum(1 for e in window if (e.get("http_status") or 0) >= 500)
            enough = len(window) >= 20 and bad >= 5
        else:
            bad = sum(1 for e in window if (e.get("duration_ms") or 0) > 2000)
            enough = len(window) >= 20
        return enough and 100 * bad > 5 * len(window), bad / len(window)

    if alert == "JobQueueDepth":
        samples = in_window(mine, t, 90 * 1_000_000)
        if not samples:
            return None, None
        queues = {e.get("queue") for e in samples}
        depth = sum(newest([e for e in samples if e.get("queue") == q])["depth"] for q in queues)
        return depth > 100, depth

    if alert == "AIGatewayDown":
        results = sorted(in_window(mine, t, 150 * 1_000_000), key=lambda e: (e["ts"], e["event_id"]))
        if not results:
            return None, None
        last = results[-3:]
        return len(last) == 3 and all(e["status"] != "success" for e in last), 3

    if alert == "DiskUsage":
        samples = in_window(mine, t, 5 * MINUTE)
        if not samples:
            return None, None
        used, capacity = newest(samples).get("used_bytes"), newest(samples).get("capacity_bytes")
        if used is None or capacity is None or capacity <= 0 or used > capacity:
            return None, None
        return 100 * used > 80 * capacity, used / capacity

    if alert == "SyncFailures":
        failed = [e for e in in_window(mine, t, 60 * MINUTE) if e.get("status") == "error"]
        count = len({e.get("run_id") or ("no run_id", e["event_id"]) for e in failed})
        limit = 5
    else:
        count = sum(1 for e in in_window(mine, t, 5 * MINUTE) if e.get("status") == "failure")
        limit = 20
    if count == 0 and nothing_means_unknown(alert, labels, everything, t):
        return None, None
    return count > limit, count


def episodes(events, until):
    """Every episode of the seven alerts: dicts of alert, labels, pending_at, fired_at, resolved_at, value."""
    start = min(e["ts"] for e in events) // HALF_MINUTE * HALF_MINUTE
    return [found for alert in TABLE for found in episodes_of(alert, events, start, until)]


def episodes_of(alert, events, start, until):
    hold, keep, _ = TABLE[alert]
    relevant = {}
    for e in events:
        if is_relevant(alert, e):
            relevant.setdefault(identity(alert, e), []).append(e)
    found, instances = [], {}
    for t in range(start, until + 1, HALF_MINUTE):
        for labels, mine in relevant.items():
            if any(t - DAY < e["ts"] <= t for e in mine):
                truth, value = condition(alert, labels, mine, events, t)
            else:
                truth, value = False, None
            instance = instances.get(labels)
            if instance is None:
                if truth is True:
                    instance = instances[labels] = {"first": t, "active": t, "fired": None, "missed": None}
                else:
                    continue
            if instance["fired"] is None:
                if truth is None:
                    instance["active"] += HALF_MINUTE
                elif truth is False:
                    del instances[labels]
                elif t - instance["active"] >= hold:
                    instance["fired"], instance["value"] = t, value
            elif truth is True:
                instance["missed"] = None
            elif truth is False:
                if instance["missed"] is None:
                    instance["missed"] = t
                if t - instance["missed"] >= keep:
                    found.append(episode(alert, labels, instance, t))
                    del instances[labels]
    return found + [
        episode(alert, labels, i, None) for labels, i in instances.items() if i["fired"] is not None
    ]


def episode(alert, labels, instance, resolved):
    return {
        "alert": alert,
        "labels": dict(labels),
        "pending_at": instance["first"],
        "fired_at": instance["fired"],
        "resolved_at": resolved,
        "value": instance["value"],
    }
