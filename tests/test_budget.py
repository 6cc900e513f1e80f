"""Memory there is, kept to, and missing after all."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from layerlift.engine.device import budget, choose_policy
from layerlift.engine.device.budget import (
    attempt,
    attempt_each,
    capped,
    check_memory,
    ran_out,
    total_ram,
    usable_memory,
)
from layerlift.engine.device.needs import GIB
from layerlift.engine.device.plan import Plan
from layerlift.engine.model import open_model
from layerlift.engine.planning import plan_windows
from layerlift.errors import InputError, LayerliftError
from layerlift.geometry.fit import fit_size, fit_windows
from tiny_model import write_tiny_model

CPU = choose_policy("cpu")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    model = open_model(write_tiny_model(tmp_path_factory.mktemp("tiny"), layers=3))
    fit = fit_size((640, 480), (640, 480), model.geometry.space)
    return plan_windows(model, fit, fit_windows(17, 9, 4), ["", "Empty"], CPU, memory=4 * GIB)


def test_plan_of_windows(plan: Plan) -> None:
    request = plan.request
    assert (request.size, request.native, request.frames, request.branches) == ((640, 480), (640, 480), 9, 2)
    assert request.tokens == 40 * 30 * 3
    assert plan.policy == CPU
    assert plan.sparse


def test_default_memory_is_what_the_machine_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerlift.engine.planning.usable_memory", lambda policy: 123 * GIB)
    model = open_model(write_tiny_model(tmp_path))
    fit = fit_size((64, 48), (64, 48), 16)
    assert plan_windows(model, fit, fit_windows(9, 9, 4), ["Empty"], CPU).request.memory == 123 * GIB


@pytest.mark.parametrize("given", [0, -1, float("nan"), float("inf")])
def test_memory_that_cannot_be_used(given: float) -> None:
    with pytest.raises(InputError, match="--memory"):
        check_memory(given)
    assert check_memory(2.5) == 2.5 * GIB
    assert check_memory(None) is None


def test_usable_memory_by_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "total_ram", lambda: 100 * GIB)
    assert usable_memory(CPU) == 65 * GIB
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 11 * GIB)
    assert usable_memory(replace(CPU, device="mps")) == 11 * GIB
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 0)
    assert usable_memory(replace(CPU, device="mps")) == 65 * GIB
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7 * GIB, 8 * GIB))
    assert usable_memory(replace(CPU, device="cuda:1")) == 7 * GIB


def test_memory_where_the_system_call_does_not_tell_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = total_ram()
    names = {name: number for name, number in os.sysconf_names.items() if name != "SC_PHYS_PAGES"}
    monkeypatch.setattr(os, "sysconf_names", names)
    monkeypatch.setattr(os, "sysconf", names.__getitem__)
    assert total_ram() == pytest.approx(told, rel=0.05)


def test_a_container_s_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(budget, "CONTAINER_LIMITS", ())
    everything = total_ram()
    assert everything > GIB // 2
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(budget, "CONTAINER_LIMITS", (str(limit), str(tmp_path / "none")))
    limit.write_text("1000000\n")
    assert total_ram() == 1000000
    limit.write_text("max\n")
    assert total_ram() == everything


@pytest.mark.parametrize(("memory", "fraction"), [(4, 0.5), (8, 1.0), (40, 1.0)])
def test_cap_on_mps_and_cuda(monkeypatch: pytest.MonkeyPatch, memory: float, fraction: float) -> None:
    told: list[object] = []

    class Card:
        total_memory = 8 * GIB

    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 8 * GIB)
    monkeypatch.setattr(torch.mps, "set_per_process_memory_fraction", told.append)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Card)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: told.append(share))
    for device in ("mps", "cuda:1"):
        cap = capped(replace(CPU, device=device), memory * GIB)
        with cap:
            assert told == [fraction]
        assert told == [fraction, 1.0]
        told.clear()
    with capped(CPU, memory * GIB):
        assert not told


GAPS = """
import torch
from layerlift.engine.device import choose_policy
from layerlift.engine.device.budget import capped
from layerlift.engine.device.memory import host_anonymous_bytes

def gaps():
    pairs = [(torch.ones(2 * 2**20), torch.ones(2**14)) for _ in range(24)]  # 8 MiB and 64 KiB
    before = host_anonymous_bytes()
    kept = [small for _, small in pairs]
    pairs.clear()
    return 24 * 2**23 - (before - host_anonymous_bytes())

torch.ones(6 * 2**20)  # freed at once: from now on the heap takes blocks of up to 24 MiB
with capped(choose_policy("cpu"), 2**30):
    print(gaps())
print(gaps())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heap")
def test_no_gaps_are_kept_on_the_cpu_while_there_is_a_cap() -> None:
    """Bytes that stay when every other block is freed; in a process of its own, whose heap holds nothing yet."""
    done = subprocess.run([sys.executable, "-c", GAPS], capture_output=True, text=True, check=True)
    capped_gaps, gaps = map(int, done.stdout.split())
    assert capped_gaps < 2**24
    assert gaps > 2**26


# --- continuing with less ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried 1 bytes"),
        MemoryError(),
    ],
)
def test_less_is_tried_and_said(plan: Plan, error: Exception) -> None:
    said: list[str] = []
    tried: list[Plan] = []

    def work(given: Plan) -> str:
        tried.append(given)
        if len(tried) < 3:
            raise error
        return "made"

    made, used = attempt(plan, "encode", work, said.append)
    assert (made, used) == ("made", tried[-1])
    needs = [given.need("encode").total for given in tried]
    assert needs == sorted(needs, reverse=True)
    assert len(set(needs)) == 3
    assert len(said) == 2
    assert all(line.startswith("memory ran out in stage encode; continuing with less: the VAE takes") for line in said)


def test_other_errors_are_not_memory(plan: Plan) -> None:
    def work(_: Plan) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        attempt(plan, "encode", work, pytest.fail)
    assert not ran_out(ValueError("out of memory"))


def test_no_smaller_plan(plan: Plan) -> None:
    def work(_: Plan) -> None:
        raise MemoryError

    with pytest.raises(LayerliftError, match=r"memory ran out in stage denoise.*smaller --size"):
        attempt(plan, "denoise", work, lambda _: None)


def test_what_was_yielded_is_not_yielded_again(plan: Plan) -> None:
    tried: list[Plan] = []

    def work(given: Plan) -> Iterator[int]:
        tried.append(given)
        for number in range(6):
            if number == 2 * len(tried) and len(tried) < 3:
                raise MemoryError
            yield number

    assert list(attempt_each(plan, "decode", work, lambda _: None)) == list(range(6))
    assert len(tried) == 3


def test_what_the_failed_work_made_is_let_go(plan: Plan) -> None:
    import weakref

    refs: list[weakref.ref[torch.Tensor]] = []

    def work(_: Plan) -> None:
        if refs:
            assert refs[0]() is None
            return
        made = torch.zeros(10)
        refs.append(weakref.ref(made))
        raise MemoryError

    attempt(plan, "encode", work, lambda _: None)
