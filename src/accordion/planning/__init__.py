"""Which configuration for which limits: pure functions over manifest and ladder, the same at the endpoint and on the device."""

from accordion.planning.arrival import DEFAULT_THROUGHPUT_BPS, Overhead
from accordion.planning.outlook import Outlook
from accordion.planning.plan import Plan
from accordion.planning.request import Held, Request, RequestError
from accordion.planning.table import PlanTable, make_plan

__all__ = ["DEFAULT_THROUGHPUT_BPS", "Held", "Outlook", "Overhead", "Plan", "PlanTable", "Request", "RequestError", "make_plan"]
