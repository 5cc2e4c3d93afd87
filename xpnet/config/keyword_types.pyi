# Written by scripts/keyword_types.py from the settings.

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

class ClassifierSettings(TypedDict, total=False):
    missing: Literal["error", "mean", "category"] | None
    validation: float | None
    normalize: Literal["scale", "standardize", "none"] | None
    augment_shift: float | None
    augment_rotate: float | None
    augment_scale: float | None
    augment_shear: float | None
    augment_elastic_alpha: float | None
    augment_elastic_sigma: float | None
    augment_thickness: float | None
    augment_fade_epochs: int | None
    hidden: int | Sequence[int] | None
    activation: Literal["relu", "leaky-relu", "elu", "tanh", "sigmoid"] | None
    batch_norm: bool | None
    dropout: float | None
    input_dropout: float | None
    input_noise: float | None
    init: Literal["uniform", "he", "glorot"] | None
    epochs: int | None
    batch_size: Literal["full"] | int | None
    loss: Literal["cross-entropy", "squared-error"] | None
    label_smoothing: float | None
    patience: int | None
    best_by: Literal["auto", "accuracy", "weighted-accuracy", "balanced-accuracy", "loss"] | None
    average_epochs: int | None
    optimizer: Literal["sgd", "momentum", "nesterov", "adam", "adamw"] | None
    momentum: float | None
    learning_rate: float | None
    schedule: Literal["constant", "step", "exponential", "cosine"] | None
    schedule_step_epochs: int | None
    schedule_factor: float | None
    warmup_epochs: int | None
    weight_decay: float | None
    clip_norm: float | None
    max_norm: float | None
    arithmetic: Literal["reproducible", "native"] | None
    dtype: Literal["auto", "float32", "float64"] | None
    device: str | None
    backend: Literal["auto", "numpy", "cupy", "torch", "jax", "dpnp", "array-api-strict"] | None
    workers: Literal["auto"] | int | None
    require_device: bool | None
    log_every: Literal["auto"] | int | None

class FitSettings(ClassifierSettings, total=False):
    drop: Sequence[str] | None
    encode: Literal["none", "onehot"] | None
    unknown: Literal["error", "zeros"] | None
    init_from: str | Path | None
    class_weight: Literal["none", "balanced"] | Mapping[Any, float] | None
    seed: int | None
