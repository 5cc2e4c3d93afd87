"""The settings of a training run by topic, each with its type, rule, default and help text.

The defaults are the notebook's. The classes only hold the values; ``TrainConfig`` combines and checks them.
A default of None stands for one that depends on another setting, or for no value: its help says which.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from xpnet.config import rules

Normalize = Literal["scale", "standardize", "none"]
Activation = Literal["relu", "leaky-relu", "tanh", "sigmoid"]
Initialization = Literal["uniform", "he", "glorot"]
Loss = Literal["cross-entropy", "squared-error"]
ColumnKind = Literal["auto", "pixels", "features", "0.1.0"]
Missing = Literal["error", "mean"]
OptimizerName = Literal["sgd", "momentum", "nesterov", "adam", "adamw"]
ScheduleName = Literal["constant", "step", "exponential", "cosine"]
Arithmetic = Literal["reproducible", "native"]
DType = Literal["auto", "float32", "float64"]
BackendName = Literal["auto", "numpy", "cupy", "torch", "jax", "array-api-strict"]
TrackerName = Literal["wandb", "trackio", "mlflow"]


@dataclass(frozen=True)
class DataSettings:
    """Training data, validation samples and normalisation."""

    data: Annotated[Path | None, rules.PATH] = None
    """Training data: a folder with the four IDX files or with x_train.npy, y_train.npy, x_test.npy and
    y_test.npy, an .npz file of these names, or a CSV file, which needs --test-data or --test-split too.
    (default: the bundled MNIST)"""

    test_data: Annotated[Path | None, rules.PATH] = None
    """The test data, where --data is a CSV file. (default: none)"""

    test_split: Annotated[float | None, rules.SHARE] = None
    """Share of the rows of a CSV file that are test data, as in 0.2. (default: none)"""

    label: Annotated[str | None, rules.COLUMN] = None
    """Column of the labels in a CSV file, by its name or its number from 1. (default: the one named label,
    target or class; the first one without a header)"""

    missing: Missing = "error"
    """Missing values in a CSV file: error refuses them, mean takes the mean of their column over the
    training rows."""

    columns: ColumnKind = "auto"
    """Features of a CSV file: pixels, whole numbers from 0 to 255, or other numbers; auto takes whole numbers
    from 0 to 255 for pixels where the columns are a square number without names, or named like pixels; 0.1.0
    is the rule of that version. --pixels and --features are short for the two."""

    validation: Annotated[int, rules.integer_from(0)] = 0
    """Training samples held out to judge the training by."""

    normalize: Normalize = "scale"
    """Normalisation of the inputs: scale divides pixels by 255 and other numbers by the largest, standardize
    makes their mean 0 and variance 1, none leaves them as they are."""


@dataclass(frozen=True)
class AugmentationSettings:
    """Random distortions of the images, drawn anew in each epoch, up to these amounts."""

    augment_shift: Annotated[float, rules.between(0.0, 1000.0, "pixels")] = 0.0
    """Shift across and down, in pixels."""

    augment_rotate: Annotated[float, rules.between(0.0, 180.0, "degrees")] = 0.0
    """Rotation, in degrees."""

    augment_scale: Annotated[float, rules.between(0.0, 0.9, "a share of the size")] = 0.0
    """Change of size: 0.1 is 10 %."""

    augment_shear: Annotated[float, rules.between(0.0, 10.0, "pixels sideways per pixel of height")] = 0.0
    """Slant, in pixels sideways per pixel of height."""

    augment_elastic_alpha: Annotated[float, rules.between(0.0, 10000.0, "pixels")] = 0.0
    """Strength of the elastic deformation, in pixels; 34 suits MNIST."""

    augment_elastic_sigma: Annotated[float | None, rules.between(0.1, 100.0, "pixels")] = None
    """Its smoothness: the standard deviation of the Gaussian that filters it, in pixels. (default: 4)"""


@dataclass(frozen=True)
class NetworkSettings:
    """Architecture and initial parameters."""

    hidden: Annotated[tuple[int, ...], rules.UNITS] = (10,)
    """Units in each hidden layer: --hidden 128 64 makes two, --hidden alone makes none (softmax
    regression)."""

    activation: Activation = "relu"
    """Activation of the hidden layers."""

    batch_norm: bool = False
    """Normalise hidden layers over the batch before they activate."""

    dropout: Annotated[float, rules.PROPER_SHARE] = 0.0
    """Probability that a hidden unit is dropped."""

    input_dropout: Annotated[float, rules.PROPER_SHARE] = 0.0
    """Probability that an input is dropped."""

    init: Initialization = "uniform"
    """Initial parameters: uniform draws all from [-0.5, 0.5); he (for relu) and glorot (for tanh and sigmoid)
    draw weights from a range that suits the layer, biases are 0."""

    init_from: Annotated[Path | None, rules.PATH] = None
    """Start from the parameters in this .safetensors file. (default: --init)"""


@dataclass(frozen=True)
class TrainingSettings:
    """Loss, mini-batches and duration of training."""

    epochs: Annotated[int, rules.integer_from(0)] = 100
    """Passes over the training data; 0 saves the initial parameters."""

    batch_size: Annotated[Literal["full"] | int, rules.integer_or("full")] = "full"
    """Samples in each gradient step; full takes all of them at once."""

    loss: Loss = "cross-entropy"
    """Loss that is minimised, a function of the softmax outputs."""

    label_smoothing: Annotated[float, rules.PROPER_SHARE] = 0.0
    """Share of each target that is spread over all classes."""

    patience: Annotated[int | None, rules.integer_from(1)] = None
    """Stop after so many epochs without a better validation accuracy; needs --validation. (default: never)"""

    seed: Annotated[int, rules.SEED] = 0
    """Fixes all that is random, such as the initial parameters and the order of the samples."""

    repeats: Annotated[int, rules.integer_from(1)] = 1
    """Train so many times, with seed, seed + 1 and so on, and report mean and standard deviation."""


@dataclass(frozen=True)
class OptimizerSettings:
    """Update rule, learning rate and regularisation."""

    optimizer: OptimizerName = "sgd"
    """Update rule of the parameters."""

    momentum: Annotated[float | None, rules.PROPER_SHARE] = None
    """Share of the last step that momentum and nesterov keep. (default: 0.9)"""

    learning_rate: Annotated[float | tuple[float, ...], rules.RATES] = 0.1
    """Step size; adam and adamw want about 0.001. With several, each is trained and the best on the
    --validation samples is kept."""

    schedule: ScheduleName = "constant"
    """Decay of the learning rate: step at intervals, exponential each epoch, cosine each step down to 0."""

    schedule_step_epochs: Annotated[int | None, rules.integer_from(1)] = None
    """Epochs from one fall of the step schedule to the next. (default: 30)"""

    schedule_factor: Annotated[float | None, rules.FACTOR] = None
    """Factor of the learning rate at each decay. (default: 0.1 for step, 0.95 for exponential)"""

    warmup_epochs: Annotated[int, rules.integer_from(0)] = 0
    """Epochs in which the learning rate first rises from near 0."""

    weight_decay: Annotated[float | None, rules.NOT_NEGATIVE] = None
    """Shrinks the weights: the loss gains half of it times their squares; adamw shrinks them beside the
    gradient. (default: 0.01 for adamw, else 0)"""

    clip_norm: Annotated[float | None, rules.POSITIVE] = None
    """Largest norm of all gradients together. (default: any)"""

    max_norm: Annotated[float | None, rules.POSITIVE] = None
    """Largest norm of the weights into a unit. (default: any)"""


@dataclass(frozen=True)
class ComputationSettings:
    """Arithmetic, device and array library."""

    arithmetic: Arithmetic = "reproducible"
    """reproducible gives the same bits with every library, device and number of threads; native is the
    library's own and the fastest."""

    dtype: DType = "auto"
    """Floating-point type: auto is float64 for reproducible and float32 for native."""

    device: Annotated[str, rules.DEVICE] = "auto"
    """Device to compute on. auto takes a GPU if one works; cuda falls back to the CPU with a warning."""

    backend: BackendName = "auto"
    """Array library. auto takes NumPy on the CPU; on a GPU the first of CuPy, PyTorch and JAX that works."""

    workers: Annotated[Literal["auto"] | int, rules.integer_or("auto")] = "auto"
    """Blocks of samples computed side by side by the NumPy backend; auto makes it the processors there
    are."""

    require_device: bool = False
    """Stop with an error where --device would fall back to the CPU."""


@dataclass(frozen=True)
class RunSettings:
    """Records and output of the run."""

    log_every: Annotated[int, rules.integer_from(1)] = 10
    """Epochs from one printed and recorded line to the next."""

    checkpoint_seconds: Annotated[float | None, rules.POSITIVE] = None
    """Save a checkpoint after so many seconds too. (default: at the end of each epoch)"""

    resume: Annotated[Path | None, rules.PATH] = None
    """Go on with the training in this folder of a run, with its settings. (default: start anew)"""

    out: Annotated[Path, rules.PATH] = Path("runs")
    """Folder that receives the folder of this run."""

    name: Annotated[str | None, rules.FOLDER_NAME] = None
    """Name of the folder of this run. (default: date and time)"""

    overwrite: bool = False
    """Replace the run that --name names, if there is one."""

    report: bool = True
    """Write report.html, the page that shows the run in a browser."""

    track: Annotated[tuple[TrackerName, ...], rules.some_of(get_args(TrackerName))] = ()
    """Show the run in these experiment trackers too, each installed with the extra of its name. (default:
    none)"""

    quiet: bool = False
    """Print errors and warnings only."""

    debug: bool = False
    """Show the whole traceback of an error."""
