"""Several devices, as they are typed: ``0,1``, ``cpu,cpu`` or ``auto``."""

import re

from layerlift.engine.device.policy import why_not
from layerlift.errors import InputError


def device_names(text: str) -> list[str]:
    """``0,1`` → ["cuda:0", "cuda:1"]; ``cpu,cpu`` → ["cpu", "cpu"].

    Raises InputError for what is no list of devices, and for a GPU that is named twice.
    """
    found = []
    for part in text.lower().split(","):
        gpu = re.fullmatch(r"(?:cuda:)?(\d{1,4})", part.strip())
        name = part.strip() if gpu is None else f"cuda:{int(gpu[1])}"
        if gpu is None and name not in ("cpu", "mps"):
            raise InputError(f"--devices {text!r} is no list of devices: give numbers of GPUs, cpu, mps, or auto.")
        if name != "cpu" and name in found:
            raise InputError(f"--devices names {name} twice: name each GPU once.")
        found.append(name)
    return found


def choose_devices(text: str | None, device: str | None = None, engine: str = "auto") -> tuple[str, ...]:
    """The devices that share a clip; none where nothing is said, and for ``auto`` without a second GPU.

    Raises InputError for what is no list of devices, those that cannot be used or do not go together, and a single
    `device` or MLX beside them.
    """
    if text is None:
        return ()
    if device is not None:
        raise InputError("--device and --devices were given: give --device for one, or --devices for several.")
    if text.strip().lower() == "auto":
        import torch

        count = torch.cuda.device_count()
        return tuple(f"cuda:{number}" for number in range(count)) if count > 1 and engine != "mlx" else ()
    names = device_names(text)
    for name in names:
        if (reason := why_not(name)) is not None:
            raise InputError(f"--devices names {name}, which cannot be used: {reason}; leave it out.")
    if len({name.partition(":")[0] for name in names}) > 1:
        raise InputError(f"--devices {text!r} mixes kinds, whose results differ: give GPUs alone, or the CPU alone.")
    if engine == "mlx" and len(names) > 1:
        raise InputError("--devices is for --engine torch, because MLX has one GPU: leave one of them out.")
    return tuple(names)
