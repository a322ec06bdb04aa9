"""The local Lipschitz penalty of GNNAutoScale's GIN example."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def local_lipschitz(function: Callable[[Tensor], Tensor], x: Tensor, out: Tensor, *, noise: float = 0.1) -> Tensor:
    """How far a map moves its outputs when its inputs move a little: the mean of ‖f(x + noise · ξ) - f(x)‖.

    ξ is standard normal. Added to the loss (:meth:`gnnscale.MiniBatch.add_penalty`), it makes a map such as GIN's
    network, whose Lipschitz constant nothing bounds, carry the error of stale histories on less (Fey et al. 2021,
    section 3; the authors' GIN example has noise 0.1).

    Parameters
    ----------
    function : callable
        f, row by row: (n, F) to (n, F').
    x : Tensor
        Shape (n, F).
    out : Tensor
        Shape (n, F'): f(x), which the caller has computed.
    noise : float, default 0.1
        Standard deviation of the noise, above 0.

    Returns
    -------
    Tensor
        A scalar, with gradients in f's parameters and in ``x``. The noise is torch's: ``torch.manual_seed`` fixes it.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.nn import local_lipschitz
    >>> x = torch.randn(1000, 4)
    >>> double = lambda rows: 2 * rows
    >>> 0.35 < float(local_lipschitz(double, x, double(x))) < 0.4  # 2 · 0.1 · E‖ξ‖, and E‖ξ‖ = 1.88 for 4 columns
    True
    """
    moved = function(x + noise * torch.randn_like(x))
    return (moved - out).norm(dim=1).mean()
