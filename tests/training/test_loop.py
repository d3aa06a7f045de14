from collections.abc import Mapping

import pytest
import torch

from rollama.training.loop import NotFinite, run


class OneWeight:
    """A one-parameter engine in this process; gradients add up as the loop's contract says."""

    rank, world = 0, 1

    def __init__(self) -> None:
        self.module = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.module.weight)
        self.steps: list[float] = []

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        loss.backward()

    def step(self, lr: float) -> None:
        with torch.no_grad():
            self.module.weight -= lr * self.module.weight.grad
        self.module.weight.grad = None
        self.steps.append(lr)

    def reduce(self, values: Mapping[str, torch.Tensor]) -> dict[str, float]:
        return {name: float(value) for name, value in values.items()}

    def state(self) -> dict[str, torch.Tensor]:
        return {"weight": self.module.weight.detach().clone()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        self.module.weight.data.copy_(state["weight"])


class Squares:
    """Mean of (w*x - 3x)^2 over a global batch of 4, as shares."""

    def forward(self, module, batch):
        share = ((module(batch) - 3 * batch) ** 2).sum() / 4
        return share, {"rows": torch.tensor(float(len(batch)))}


class Log:
    def __init__(self):
        self.rows = []

    def after_step(self, step, metrics):
        self.rows.append((step, metrics))


def batches(size):
    data = torch.tensor([[1.0], [2.0], [-1.0], [0.5]])
    return lambda step: data.split(size)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_accumulation_does_not_change_the_result(size):
    engine, log = OneWeight(), Log()
    run(engine, Squares(), batches(size), lambda step: 0.1, steps=20, callbacks=[log])
    reference = OneWeight()
    run(reference, Squares(), batches(4), lambda step: 0.1, steps=20)
    assert torch.allclose(engine.module.weight, reference.module.weight, rtol=1e-6)
    assert log.rows[0][1]["rows"] == 4
    assert log.rows[-1][1]["loss"] < 1e-2 * log.rows[0][1]["loss"]
    assert [step for step, _ in log.rows] == list(range(1, 21))


def test_starts_where_it_is_told_to():
    engine, log = OneWeight(), Log()
    run(engine, Squares(), batches(2), lambda step: 0.1 * step, steps=5, first=3, callbacks=[log])
    assert [step for step, _ in log.rows] == [4, 5]
    assert engine.steps == pytest.approx([0.3, 0.4])


class Named(torch.Tensor):
    """A batch that knows its cases."""

    case_ids = ("a-1", "a-2")


def test_a_loss_that_is_not_finite_names_the_cases_of_its_micro_batch():
    engine = OneWeight()
    bad, good = torch.tensor([[float("nan")]]).as_subclass(Named), torch.ones(1, 1)
    with pytest.raises(NotFinite, match="loss is nan, from a-1, a-2; lower the learning rate"):
        run(engine, Squares(), lambda step: [good, bad], lambda step: 0.1, steps=3)
    assert engine.steps == []


def test_a_loss_that_is_not_finite_stops_before_the_optimizer():
    engine = OneWeight()
    with pytest.raises(NotFinite, match="step 1: loss is nan"):
        run(engine, Squares(), lambda step: [torch.tensor([[float("nan")]])], lambda step: 0.1, steps=3)
    assert engine.steps == []
