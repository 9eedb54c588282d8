"""The optimizer: float32 copies of 16-bit weights, and float16's scaling."""

import pytest
import torch

from rlhf_core.policies.optimizer import MasterAdamW, rate_factor
from rlhf_core.policies.processes import Processes

ALONE = Processes(0, 1, torch.device("cpu"))


def make(dtype: torch.dtype, **options: object) -> tuple[torch.Tensor, MasterAdamW]:
    weight = torch.ones((2, 2), dtype=dtype, requires_grad=True)
    optimizer = MasterAdamW([({"w": weight}, 1e-3)], weight_decay=0.0, **options)  # type: ignore[arg-type]
    return weight, optimizer


def test_steps_too_small_for_16_bits_add_up() -> None:
    weight, optimizer = make(torch.bfloat16)
    for _ in range(10):
        weight.sum().backward()
        assert weight.grad is None  # it went into the float32 copy at once
        optimizer.step(ALONE, rate=1.0, max_norm=1e9)
    assert optimizer.masters["w"][0, 0].item() == pytest.approx(0.99, abs=1e-4)
    assert weight[0, 0].item() == pytest.approx(0.99, abs=0.004)


def test_float16_is_scaled_and_a_step_that_overflows_is_left_out() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    weight, optimizer = make(torch.float16, scaler=scaler)
    optimizer.scale((weight * 1e-5).sum()).backward()  # type: ignore[no-untyped-call]
    norm = optimizer.step(ALONE, rate=1.0, max_norm=1e9)
    assert norm == pytest.approx(2e-5, rel=1e-2)
    after = optimizer.masters["w"].clone()
    assert after[0, 0] < 1.0

    optimizer.scale((weight * 1e3).sum()).backward()  # type: ignore[no-untyped-call]
    assert optimizer.step(ALONE, rate=1.0, max_norm=1e9) == float("inf")
    assert torch.equal(optimizer.masters["w"], after)
    assert scaler.get_scale() == 2.0**11


def test_the_schedule_warms_up_and_falls_to_nothing() -> None:
    rates = [rate_factor(step, 10, schedule="linear", warmup=0.2) for step in range(10)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert rates[-1] == pytest.approx(1 / 8)
    assert rate_factor(9, 10, schedule="constant", warmup=0.0) == 1.0
