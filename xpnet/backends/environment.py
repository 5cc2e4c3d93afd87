"""Environment variables that change the precision of a GPU's products behind everybody's back."""

import os
from typing import Final

from xpnet.errors import ConfigError

REFUSED: Final = {
    "CUPY_TF32": "CuPy then shortens float32 operands to 10 bits",
    "NVIDIA_TF32_OVERRIDE": "cuBLAS may then shorten float32 operands to 10 bits",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "PyTorch then shortens float32 operands to 10 bits",
    "CUBLAS_EMULATE_SINGLE_PRECISION": "cuBLAS then emulates float32 with smaller numbers",
    "CUBLAS_EMULATE_DOUBLE_PRECISION": "cuBLAS then emulates float64 with integers",
    "CUBLAS_EMULATION_STRATEGY": "cuBLAS may then emulate float64 with integers",
}
"""By name, what each does; 0 switches it off."""


def check() -> None:
    """Raise ConfigError if a variable is set that would change the bits of a product."""
    for name, effect in REFUSED.items():
        value = os.environ.get(name, "")
        if value not in ("", "0"):
            msg = f"{name}={value}: {effect}, so results would not be comparable: unset {name}"
            raise ConfigError(msg)
