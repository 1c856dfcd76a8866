"""The receiving side: fetch, run, upgrade, shed. No torch.

from accordion.device import Model, Request, fetch

fetch("http://127.0.0.1:8642/digits", "model", Request(deadline_s=0.5))
with Model.open("model") as model:
    outputs = model.run(pictures)
"""

from accordion.device.fetching import Fetch, fetch, upgrade
from accordion.device.job import Delivery, Observer
from accordion.device.link import Link
from accordion.device.model import Model, shed, verify_model
from accordion.planning import Request

__all__ = ["Delivery", "Fetch", "Link", "Model", "Observer", "Request", "fetch", "shed", "upgrade", "verify_model"]
