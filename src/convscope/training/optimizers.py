"""How gradients change weights: stochastic gradient descent, and Muon. (torch.optim takes a second to load.)"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convscope.backends.native.dense import matmul, matmul_transposed
from convscope.backends.native.norm_act_pool import NORMS
from convscope.backends.native.step import sgd_step
from convscope.training.recipes import Recipe

REST_MOMENTUM = 0.9  # of what Muon leaves to stochastic gradient descent
MUON_STEPS = 3
MUON_POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # Jordan et al., 2024: any singular value in (0, 1] comes close to 1


class Optimizer:
    """Changes a model's weights by their gradients, and drops these, as a recipe says.

    With `muon` (Jordan et al., 2024) the weights of convolutions and dense layers, but for the classifier, move by
    their orthogonalized momentum; everything else, and with `sgd` everything, by stochastic gradient descent.
    `velocities` is all that it remembers from step to step: by the weight's name, of its shape, at first 0.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        if recipe.fixed_norms:
            for layer in model.modules():
                if isinstance(layer, NORMS):
                    layer.weight.requires_grad_(False)
        weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        matrices = [name for name, weight in weights.items() if weight.ndim > 1][:-1]
        moved = matrices if recipe.optimizer == "muon" else []
        self.recipe = recipe
        self.velocities = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self.matrices = [(weights[name], self.velocities[name]) for name in moved]
        self.others = [
            (weight, self.velocities[name], *_rate_and_decay(name, recipe))
            for name, weight in weights.items()
            if name not in moved
        ]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Change every weight that has a gradient; `learning_rate` is the recipe's at this step."""
        recipe = self.recipe
        for weight, velocity in self.matrices:
            if weight.grad is not None:
                velocity.mul_(recipe.momentum).add_(weight.grad)
                direction = orthogonalized(weight.grad.add(velocity, alpha=recipe.momentum).flatten(1))
                tall = max(1.0, direction.shape[0] / direction.shape[1]) ** 0.5
                if recipe.fixed_norms:
                    weight.mul_(len(weight) ** 0.5 / weight.norm())
                if recipe.matrix_decay:
                    weight.mul_(1 - learning_rate * recipe.matrix_decay)
                weight.sub_(direction.view(weight.shape), alpha=learning_rate * tall)
                weight.grad = None
        momentum = recipe.momentum if recipe.optimizer == "sgd" else REST_MOMENTUM
        share = learning_rate / recipe.learning_rate
        for weight, velocity, rate, decay in self.others:
            if weight.grad is not None:
                sgd_step(weight.data, weight.grad, velocity, share * rate, momentum, decay, recipe.nesterov)
                weight.grad = None


def orthogonalized(matrix: Tensor) -> Tensor:
    """About U V^T of a matrix U S V^T, float32 (rows, columns): singular values that are not far apart come near 1.

    Newton-Schulz iteration with Muon's polynomial.
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


def _rate_and_decay(name: str, recipe: Recipe) -> tuple[float, float]:
    """The highest rate of a weight that descends, and its decay: all lose the same share of themselves in a step."""
    rate = recipe.learning_rate if recipe.optimizer == "sgd" else recipe.rest_learning_rate
    of_norm = name.endswith(".bias") and name.split(".")[-2].startswith("batchnorm")
    if recipe.bias_learning_rate and of_norm:
        return recipe.bias_learning_rate, recipe.weight_decay * rate / recipe.bias_learning_rate
    return rate, recipe.weight_decay
