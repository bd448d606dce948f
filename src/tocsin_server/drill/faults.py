"""The faults that prove the runbooks: one per alert at least, and one per cause that events can show.

A fault with the cause None is as important as the others: the alert fires, and no runbook may name a cause.
A cause that is added to a runbook gets a row in one of these tables, if events can show it.
"""

from __future__ import annotations

from tocsin_server.drill.core_faults import CORE_FAULTS
from tocsin_server.drill.fault import Fault
from tocsin_server.drill.gateway_faults import GATEWAY_FAULTS
from tocsin_server.drill.login_faults import LOGIN_FAULTS
from tocsin_server.drill.queue_faults import QUEUE_FAULTS
from tocsin_server.drill.sync_faults import SYNC_FAULTS

#: Name -> fault; ``tocsin drill`` takes an alert's first one with a cause.
FAULTS: dict[str, Fault] = {
    fault.name: fault for fault in (*CORE_FAULTS, *GATEWAY_FAULTS, *SYNC_FAULTS, *LOGIN_FAULTS, *QUEUE_FAULTS)
}
