"""The letters at the end of a tensor's name are its axes, and they are checked.

Legend, used all over `training/`: B rows or episodes, T token positions, K turns of an episode, C policy calls of a
batch, R rows of a minibatch, P prompt positions. A function that takes several tensors calls `agree` first: torch
would broadcast a (B, 1) beside a (B, T), and the loss would be a number like any other.
"""

from torch import Tensor


def agree(**tensors: Tensor | None) -> None:
    """Check that each tensor has the axes its name ends in, and that equal letters are equally long.

    `agree(values_BT=values, mask_BT=mask)` passes if both are two-dimensional and of one shape. None is not looked at.

    Raises:
        ValueError: naming the first tensor that does not fit, the shape it should have and the one it has.
    """
    sizes: dict[str, int] = {}
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        axes = name.rpartition("_")[2]
        wanted = [sizes.get(axis) for axis in axes]
        fits = tensor.ndim == len(axes) and all(
            want in (None, got) for want, got in zip(wanted, tensor.shape, strict=True)
        )
        if not fits:
            told = ", ".join(
                axis if want is None else f"{axis}={want}" for axis, want in zip(axes, wanted, strict=True)
            )
            raise ValueError(f"{name} should have the shape ({told}), but it has {tuple(tensor.shape)}")
        sizes.update(zip(axes, tensor.shape, strict=True))


def scalar(name: str, value: Tensor | float) -> None:
    """Check that `value` is one number: dividing by a (B,) would broadcast too.

    Raises:
        ValueError: naming it and the shape it has.
    """
    if isinstance(value, Tensor) and value.ndim != 0:
        raise ValueError(f"{name} should be one number, but it has the shape {tuple(value.shape)}")
