"""The step of backpropagation in Chromium: its numbers are those of torch and of the reference."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

import convscope
from convscope import reference
from convscope.backends.pytorch.models import as_batch
from convscope.images.read import read_image

pytestmark = pytest.mark.slow

LABEL = 3


def numbers(text: str) -> list[float]:
    return [float(one) for one in re.findall(r"-?\d[\d.]*(?:e-?\d+)?", text.replace("\u2212", "-"))]


def lines(page: Any) -> list[str]:
    """Loss, gradient, velocity, weight."""
    found: list[str] = page.locator("lab-backprop .sum").all_inner_texts()
    return found


def test_step_of_backpropagation_agrees_with_torch(browser: Any, url: str, digits_run: convscope.Run) -> None:
    golden = convscope.Predictor(digits_run.model_file).metadata.golden[0]
    preprocessing, model = digits_run.config.preprocessing, digits_run.model()
    pixels, _ = preprocessing.transform(read_image(golden.file))
    inputs = as_batch(preprocessing.normalize(pixels[None]))
    name, weight = next((name, one) for name, one in model.named_parameters() if one.dim() == 4)

    def loss_of() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(inputs), torch.tensor([LABEL]))

    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)  # at a constant rate that of Keras
    page = browser.new_page()
    page.goto(url)
    page.wait_for_selector(".verdict", timeout=20_000)
    page.locator("lab-backprop summary").focus()
    page.keyboard.press("Enter")
    page.get_by_label("True class").select_option(str(LABEL))
    page.get_by_label("Index").fill("1, 0, 2, 1")
    page.get_by_label("Index").press("Enter")
    page.wait_for_function("document.querySelectorAll('lab-backprop .sum').length === 4")
    page.wait_for_timeout(300)
    for _ in range(2):
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        assert weight.grad is not None
        gradient, value = float(weight.grad[1, 0, 2, 1]), float(weight.detach()[1, 0, 2, 1])
        shown = lines(page)
        assert numbers(shown[0])[0] == pytest.approx(float(loss.detach()), rel=1e-4), name
        assert numbers(shown[1]) == pytest.approx([gradient], rel=1e-3)
        terms = [numbers(text)[-1] for text in page.locator("lab-backprop tr td:last-child").all_inner_texts()]
        assert sum(terms) == pytest.approx(gradient, rel=1e-3)
        if len(shown) == 4 and numbers(shown[2])[1] == 0:
            new, velocity = reference.sgd_momentum(np.array(value), np.array(0.0), np.array(gradient))
            assert numbers(shown[2])[-1] == pytest.approx(float(velocity), rel=1e-3)
            assert numbers(shown[3])[-1] == pytest.approx(float(new), rel=1e-4)
        page.get_by_role("button", name="Step all weights").click()
        page.wait_for_function("text => document.querySelector('lab-backprop .sum').textContent !== text", arg=shown[0])
        page.wait_for_timeout(200)
        optimizer.step()
    assert numbers(lines(page)[0])[0] == pytest.approx(float(loss_of().detach()), rel=1e-3)
    page.get_by_label("Index").fill("99, 0, 0, 0")
    page.get_by_label("Index").press("Enter")
    page.wait_for_selector("lab-backprop [role=alert]")
    assert "expected 4 numbers, at most" in page.locator("lab-backprop [role=alert]").inner_text()
    page.close()
