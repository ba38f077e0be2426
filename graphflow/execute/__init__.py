"""Execute: plans bound to the devices of this process, and the state that runs change."""

from graphflow.execute.devices import Device, open_device
from graphflow.execute.local import LocalTarget
from graphflow.execute.program import Program
from graphflow.execute.store import Store, Transaction

__all__ = ["Device", "LocalTarget", "Program", "Store", "Transaction", "open_device"]
