"""What the machine can do: backend policy as data, and how much memory a run took."""

from layerlift.engine.device.memory import MemoryMeter, free_device
from layerlift.engine.device.policy import BACKENDS, Policy, choose_policy

__all__ = ["BACKENDS", "MemoryMeter", "Policy", "choose_policy", "free_device"]
