"""Fire drills: marked synthetic events that walk an alert through the real code."""

from tocsin_server.drill.fault import Fault
from tocsin_server.drill.faults import FAULTS
from tocsin_server.drill.run import drill

__all__ = ["FAULTS", "Fault", "drill"]
