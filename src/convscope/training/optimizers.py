"""Optimizers: stochastic gradient descent with momentum, and Muon. (`torch.optim` takes a second to import.)"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convscope.backends.native.dense import matmul, matmul_transposed
from convscope.backends.native.norm_act_pool import NORMS
from convscope.backends.native.step import sgd_step
from convscope.training.recipe import OptimizerConfig

SGD_MOMENTUM = 0.9  # of the weights that Muon leaves to SGD
MUON_STEPS = 3
MUON_POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # Jordan et al., 2024


class Optimizer:
    """Updates a model's weights from their gradients, and drops the gradients.

    With `muon` (Jordan et al., 2024), the weights of convolutions and dense layers, except for the classifier, move by
    their orthogonalized momentum and all others by stochastic gradient descent; with `sgd`, all of them do.
    `momenta` is all the state between steps: by the weight's name, of its shape, 0 at first.
    """

    def __init__(self, model: nn.Module, config: OptimizerConfig) -> None:
        if config.freeze_norm_scale:
            for layer in model.modules():
                if isinstance(layer, NORMS):
                    layer.weight.requires_grad_(False)
        weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        matrices = [name for name, weight in weights.items() if weight.ndim > 1][:-1]
        names = matrices if config.name == "muon" else []
        depths = _depths(list(weights))
        self.config = config
        self.weights = list(weights.values())
        self.momenta = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self.muon_weights = [(weights[name], self.momenta[name]) for name in names]
        self.sgd_weights = [
            (weight, self.momenta[name], *_rate_and_decay(name, config, depths[name]))
            for name, weight in weights.items()
            if name not in names
        ]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update every weight that has a gradient; `learning_rate` is the scheduled one of this step."""
        config = self.config
        if config.max_gradient_norm is not None:
            self._clip_gradients(config.max_gradient_norm)
        for weight, momentum in self.muon_weights:
            if weight.grad is not None:
                momentum.mul_(config.momentum).add_(weight.grad)
                direction = orthogonalize(weight.grad.add(momentum, alpha=config.momentum).flatten(1))
                aspect = max(1.0, direction.shape[0] / direction.shape[1]) ** 0.5
                if config.freeze_norm_scale:
                    weight.mul_(len(weight) ** 0.5 / weight.norm())
                if config.muon_weight_decay:
                    weight.mul_(1 - learning_rate * config.muon_weight_decay)
                weight.sub_(direction.view(weight.shape), alpha=learning_rate * aspect)
                weight.grad = None
        momentum_factor = config.momentum if config.name == "sgd" else SGD_MOMENTUM
        fraction = learning_rate / config.learning_rate
        for weight, momentum, rate, decay in self.sgd_weights:
            if weight.grad is not None:
                sgd_step(weight.data, weight.grad, momentum, fraction * rate, momentum_factor, decay, config.nesterov)
                weight.grad = None

    def _clip_gradients(self, longest: float) -> None:
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        length = float(torch.stack([gradient.norm() for gradient in gradients]).norm())
        if length > longest:
            for gradient in gradients:
                gradient.mul_(longest / length)


def orthogonalize(matrix: Tensor) -> Tensor:
    """Return approximately U V^T of a matrix U S V^T, float32 (rows, columns), by a Newton-Schulz iteration.

    Muon's polynomial brings singular values in (0, 1] close to 1.
    """
    a, b, c = MUON_POLYNOMIAL
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = (wide / (wide.norm() + 1e-7)).contiguous()
    for _ in range(MUON_STEPS):
        square = matmul_transposed(x, x)
        polynomial = matmul_transposed(square, square).mul_(c).add_(square, alpha=b)
        x = matmul(polynomial, x).add_(x, alpha=a)
    found: Tensor = x.T if matrix.shape[0] > matrix.shape[1] else x
    return found


def _depths(names: list[str]) -> dict[str, int]:
    """How many layers, blocks counting as one, lie between each weight and the last."""
    layers = list(dict.fromkeys(name.partition(".")[0] for name in reversed(names)))
    return {name: layers.index(name.partition(".")[0]) for name in names}


def _rate_and_decay(name: str, config: OptimizerConfig, depth: int) -> tuple[float, float]:
    """Return the peak learning rate and the decay of an SGD weight; all of a layer lose the same fraction per step."""
    rate = (config.learning_rate if config.name == "sgd" else config.sgd_lr) * config.layer_decay**depth
    is_norm_bias = name.endswith(".bias") and name.split(".")[-2].startswith("batchnorm")
    if config.norm_bias_lr and is_norm_bias:
        return config.norm_bias_lr, config.weight_decay * rate / config.norm_bias_lr
    return rate, config.weight_decay
