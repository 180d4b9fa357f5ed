"""Norms, linear layers and MLPs on fast operators, row by row; see ``fast_network``."""

import torch
from torch import nn


def runs_gpu_kernels(x: torch.Tensor) -> bool:
    """Whether ``x`` is on a GPU that this build has kernels for."""
    return x.is_cuda and torch.ops.petmad.has_gpu_kernels()


def has_operators(x: torch.Tensor) -> bool:
    """Whether the operators run where ``x`` is."""
    return x.is_cpu or runs_gpu_kernels(x)


class NormWeights(nn.Module):
    """Name, weights and epsilon of a norm; of none at all for None."""

    def __init__(self, norm: nn.Module | None, like: torch.Tensor) -> None:
        super().__init__()
        nothing = like.new_zeros(0)
        self.name = "none"
        self.epsilon = 0.0
        self.register_buffer("gain", nothing)
        self.register_buffer("bias", nothing)
        if norm is not None:
            eps = norm.eps  # None: RMSNorm takes that of the dtype
            self.epsilon = torch.finfo(like.dtype).eps if eps is None else eps
            self.gain = norm.weight.detach()
            self.name = "RMSNorm"
            if isinstance(norm, nn.LayerNorm):
                self.name = "LayerNorm"
                self.bias = norm.bias.detach()


class FastMLP(nn.Module):
    """``x`` (if residual) ``+ f(second(activation(first(norm(x)))))`` in one pass."""

    def __init__(
        self,
        norm: nn.Module | None,
        linears: tuple[nn.Linear, nn.Linear],
        activation: str,
        residual: bool = False,
        activate_output: bool = False,
    ) -> None:
        super().__init__()
        self.norm = NormWeights(norm, linears[0].weight)
        self.plain_norm = nn.Identity() if norm is None else norm
        self.first, self.second = linears
        self.activation = activation
        self.residual = residual
        self.activate_output = activate_output

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, d] in, [n, d_out] out."""
        if has_operators(x):
            return torch.ops.petmad.mlp(
                x,
                self.norm.name,
                self.norm.gain,
                self.norm.bias,
                self.norm.epsilon,
                self.first.weight,
                self.first.bias,
                self.second.weight,
                self.second.bias,
                self.activation,
                self.residual,
                self.activate_output,
            )
        inner = self.first(self.plain_norm(x))
        if self.activation == "SwiGLU":
            value, gate = inner.chunk(2, dim=-1)
            inner = value * torch.sigmoid(gate)
        else:
            inner = nn.functional.silu(inner)
        y = self.second(inner)
        if self.activate_output:
            y = nn.functional.silu(y)
        return x + y if self.residual else y
