"""Apple's MLX on this machine: whether it can be used, and how much memory it may take.

MLX is imported here only when it is asked to do something.
"""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

# Freed arrays are kept to be used again, up to this share of the memory there is; and up to this much in any case.
CACHE_SHARE = 0.125
LEAST_CACHE = 2**26


def why_not_mlx() -> str | None:
    """Why MLX cannot be used; None when it can, be it on the CPU."""
    try:
        import mlx.core  # noqa: F401
    except ModuleNotFoundError:
        return "it is not installed: pip install 'layerlift[mlx]'"
    except ImportError as error:
        return f"it cannot be loaded ({error})"
    return None


def has_metal() -> bool:
    """Whether MLX is there and computes on an Apple GPU."""
    if platform.system() != "Darwin" or platform.machine() != "arm64" or why_not_mlx() is not None:
        return False
    import mlx.core as mx

    return bool(mx.metal.is_available())


def describe_mlx(device: str = "mps") -> str:
    """Which MLX is here, and what it computes on where it is asked for torch's `device`; or why there is none."""
    reason = why_not_mlx()
    if reason is not None:
        return f"no: {reason}"
    try:
        number = version("mlx")
    except PackageNotFoundError:
        number = "of an unknown version"
    on_gpu = device.startswith("mps") and has_metal()
    return f"mlx {number} on {'Apple GPU' if on_gpu else 'the CPU, which is slow'}"


def set_mlx_device(device: str) -> None:
    """Compute on what torch calls `device`: the GPU for "mps", else the CPU."""
    import mlx.core as mx

    mx.set_default_device(mx.gpu if device.startswith("mps") else mx.cpu)


@contextmanager
def limited_mlx(peak: float, memory: float) -> Iterator[None]:
    """While this is open MLX keeps to a plan that takes `peak` of `memory` bytes.

    The limit on memory makes the allocator wait and give back what it keeps before it takes more; what it keeps is
    limited to what the plan leaves; and on a GPU what the plan takes stays in memory, as far as the system lets it.
    """
    import mlx.core as mx

    cache = max(LEAST_CACHE, min(memory - peak, CACHE_SHARE * memory))
    limits = {mx.set_memory_limit: int(memory), mx.set_cache_limit: int(cache)}
    if has_metal():
        # With more than this MLX raises an error. The GPU's, by name: the device that MLX runs on may be the CPU.
        most = mx.device_info(mx.gpu)["max_recommended_working_set_size"]
        limits[mx.set_wired_limit] = min(int(peak), int(most))
    before = {}
    try:
        for put, value in limits.items():
            before[put] = put(value)
        yield
    finally:
        for put, value in before.items():
            put(value)


def free_mlx() -> None:
    """Give back what MLX's allocator keeps, after the last reference to a part is gone."""
    import gc

    import mlx.core as mx

    gc.collect()
    mx.clear_cache()


def mlx_peak_bytes() -> int:
    """The highest that MLX's allocator held on a GPU since `reset_mlx_peak`; 0 on the CPU, which is the host's."""
    import mlx.core as mx

    return int(mx.get_peak_memory()) if has_metal() else 0


def reset_mlx_peak() -> None:
    """Start the high-water mark anew."""
    import mlx.core as mx

    mx.reset_peak_memory()
