"""The settings of a training run by topic, each with its type, rule, default and help text.

The defaults are the notebook's. The classes only hold the values; ``TrainConfig`` combines and checks them.
A default of None stands for one that depends on another setting, or for no value: its help says which.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal, get_args

from xpnet._typing import Names
from xpnet.config import rules

Normalize = Literal["scale", "standardize", "none"]
ActivationName = Literal["relu", "leaky-relu", "elu", "tanh", "sigmoid"]
Initialization = Literal["uniform", "he", "glorot"]
LossName = Literal["cross-entropy", "squared-error"]
BestBy = Literal["auto", "accuracy", "weighted-accuracy", "balanced-accuracy", "loss"]
OptimizerName = Literal["sgd", "momentum", "nesterov", "adam", "adamw"]
ScheduleName = Literal["constant", "step", "exponential", "cosine"]
Arithmetic = Literal["reproducible", "native"]
BackendName = Literal["auto", "numpy", "cupy", "torch", "jax", "dpnp", "array-api-strict"]
TrackerName = Literal["wandb", "trackio", "mlflow"]

AutoOrNumber = Annotated[Literal["auto"] | int, rules.integer_or("auto")]
Epochs = Annotated[int, rules.integer_from(0)]
OptionalNumber = Annotated[int | None, rules.integer_from(1)]
OptionalPath = Annotated[Path | None, rules.PATH]
OptionalPositive = Annotated[float | None, rules.POSITIVE]
ProperShare = Annotated[float, rules.PROPER_SHARE]
"""Types that several settings have, with their rules."""


@dataclass(frozen=True)
class DataSettings:
    """Training data, validation samples and normalisation.

    Attributes
    ----------
    data
        Training data: a folder with the four IDX files or with x_train.npy, y_train.npy, x_test.npy and
        y_test.npy, an .npz file of these names, or a CSV file, which needs --test-data or --test-split too.
        (default: the bundled MNIST)
    test_data
        The test data, where --data is a CSV file. (default: none)
    test_split
        Share of the rows of a CSV file that are test data, as in 0.2. (default: none)
    label
        Column of the labels in a CSV file, by its name or its number from 1. (default: the one named label,
        target or class; the first one without a header)
    missing
        Missing values in a CSV file: error refuses them, mean takes the mean of their column over the
        training rows, category does so and makes missing text a category of its own.
    drop
        Columns of a CSV file to leave out, by their names. (default: none)
    encode
        Columns of text in a CSV file: onehot makes a feature of each value, of up to 50 values; none refuses
        them.
    unknown
        Text that is no value of the training rows: error refuses it, zeros makes all features of its column
        0.
    columns
        Features of a CSV file: pixels, whole numbers from 0 to 255, or other numbers; auto takes whole
        numbers from 0 to 255 for pixels where the columns are a square number without names, or named like
        pixels; 0.1.0 is the rule of that version. --pixels and --features are short for the two.
    validation
        Training samples held out to judge the training by: their number, or with a decimal point their
        share, as in 0.1.
    normalize
        Normalisation of the inputs: scale divides pixels by 255 and other numbers by the largest,
        standardize makes their mean 0 and variance 1, none leaves them as they are.
    """

    data: OptionalPath = None
    test_data: OptionalPath = None
    test_split: Annotated[float | None, rules.SHARE] = None
    label: Annotated[str | None, rules.COLUMN] = None
    missing: Literal["error", "mean", "category"] = "error"
    drop: Annotated[Names, rules.COLUMNS] = ()
    encode: Literal["none", "onehot"] = "none"
    unknown: Literal["error", "zeros"] = "error"
    columns: Literal["auto", "pixels", "features", "0.1.0"] = "auto"
    validation: Annotated[float, rules.SAMPLES] = 0
    normalize: Normalize = "scale"


@dataclass(frozen=True)
class AugmentationSettings:
    """Random distortions of the images, drawn anew in each epoch, up to these amounts.

    Attributes
    ----------
    augment_shift
        Shift across and down, in pixels.
    augment_rotate
        Rotation, in degrees.
    augment_scale
        Change of size: 0.1 is 10 %.
    augment_shear
        Slant, in pixels sideways per pixel of height.
    augment_elastic_alpha
        Strength of the elastic deformation, in pixels; 34 suits MNIST.
    augment_elastic_sigma
        Its smoothness: the standard deviation of the Gaussian that filters it, in pixels. (default: 4)
    augment_thickness
        Growth or shrinkage of bright lines, in pixels at each edge.
    augment_fade_epochs
        Last epochs in which the amounts fall linearly to almost 0.
    """

    augment_shift: Annotated[float, rules.between(0.0, 1000.0, "pixels")] = 0.0
    augment_rotate: Annotated[float, rules.between(0.0, 180.0, "degrees")] = 0.0
    augment_scale: Annotated[float, rules.between(0.0, 0.9, "a share of the size")] = 0.0
    augment_shear: Annotated[float, rules.between(0.0, 10.0, "pixels sideways per pixel of height")] = 0.0
    augment_elastic_alpha: Annotated[float, rules.between(0.0, 10000.0, "pixels")] = 0.0
    augment_elastic_sigma: Annotated[float | None, rules.between(0.1, 100.0, "pixels")] = None
    augment_thickness: Annotated[float, rules.between(0.0, 1.0, "pixels")] = 0.0
    augment_fade_epochs: Epochs = 0


_AMOUNTS = ("shift", "rotate", "scale", "shear", "elastic_alpha", "thickness")
DISTORTIONS = tuple(f"augment_{name}" for name in _AMOUNTS)
"""The settings that distort images; the others of their kind change how."""


@dataclass(frozen=True)
class NetworkSettings:
    """Architecture and initial parameters.

    Attributes
    ----------
    hidden
        Units in each hidden layer: --hidden 128 64 makes two, --hidden alone makes none (softmax
        regression).
    activation
        Activation of the hidden layers.
    batch_norm
        Normalise hidden layers over the batch before they activate.
    dropout
        Probability that a hidden unit is dropped.
    input_dropout
        Probability that an input is dropped.
    input_noise
        Largest magnitude of the uniform noise that is added to each normalised input.
    init
        Initial parameters: uniform draws all from [-0.5, 0.5); he (for relu, leaky-relu and elu) and
        glorot (for tanh and sigmoid) draw weights from a range that suits the layer, biases are 0.
    init_from
        Start from the parameters in this .safetensors file. (default: --init)
    """

    hidden: Annotated[tuple[int, ...], rules.UNITS] = (10,)
    activation: ActivationName = "relu"
    batch_norm: bool = False
    dropout: ProperShare = 0.0
    input_dropout: ProperShare = 0.0
    input_noise: Annotated[float, rules.NOT_NEGATIVE] = 0.0
    init: Initialization = "uniform"
    init_from: OptionalPath = None


@dataclass(frozen=True)
class TrainingSettings:
    """Loss, mini-batches and duration of training.

    Attributes
    ----------
    epochs
        Passes over the training data; 0 saves the initial parameters.
    batch_size
        Samples in each gradient step, at most all there are; full takes all of them at once. With
        --batch-norm it is increased where the last step of an epoch would have a single sample.
    loss
        Loss that is minimised, a function of the softmax outputs.
    label_smoothing
        Share of each target that is spread over all classes.
    class_weight
        Weights of the classes in the loss that is minimised: balanced gives all classes the same weight in
        total, however many samples each has; none gives all samples the same.
    patience
        Stop after so many epochs without a better one, see --best-by; needs --validation. (default: never)
    best_by
        What makes an epoch of --patience, or one of several learning rates, the best on the validation
        samples: accuracy; weighted-accuracy, with the weights of samples and classes; balanced-accuracy, the
        mean of the recalls of the classes; or loss. auto is weighted-accuracy where there are weights, else
        accuracy.
    average_epochs
        Last epochs whose parameters are averaged to those of the trained network (stochastic weight
        averaging); 1 takes the last epoch as it is.
    seed
        Fixes all that is random, such as the initial parameters and the order of the samples.
    repeats
        Train so many times, with seed, seed + 1 and so on, and report mean and standard deviation.
    """

    epochs: Epochs = 100
    batch_size: Annotated[Literal["full"] | int, rules.integer_or("full")] = "full"
    loss: LossName = "cross-entropy"
    label_smoothing: ProperShare = 0.0
    class_weight: Literal["none", "balanced"] = "none"
    patience: OptionalNumber = None
    best_by: BestBy = "auto"
    average_epochs: Annotated[int, rules.integer_from(1)] = 1
    seed: Annotated[int, rules.SEED] = 0
    repeats: Annotated[int, rules.integer_from(1)] = 1


@dataclass(frozen=True)
class OptimizerSettings:
    """Update rule, learning rate and regularisation.

    Attributes
    ----------
    optimizer
        Update rule of the parameters.
    momentum
        Share of the last step that momentum and nesterov keep. (default: 0.9)
    learning_rate
        Step size; adam and adamw want about 0.001. With several, each is trained and the best on the
        --validation samples is kept.
    schedule
        Decay of the learning rate: step at intervals, exponential each epoch, cosine each step.
    schedule_step_epochs
        Epochs from one fall of the step schedule to the next. (default: 30)
    schedule_factor
        Factor of the learning rate at each decay, of cosine over all epochs. (default: 0.1 for step, 0.95
        for exponential, 0 for cosine)
    warmup_epochs
        Epochs in which the learning rate first rises from near 0.
    weight_decay
        Shrinks the weights: the loss gains half of it times their squares; adamw shrinks them beside the
        gradient. (default: 0.01 for adamw, else 0)
    clip_norm
        Largest norm of all gradients together. (default: any)
    max_norm
        Largest norm of the weights into a unit. (default: any)
    """

    optimizer: OptimizerName = "sgd"
    momentum: Annotated[float | None, rules.PROPER_SHARE] = None
    learning_rate: Annotated[float | tuple[float, ...], rules.RATES] = 0.1
    schedule: ScheduleName = "constant"
    schedule_step_epochs: OptionalNumber = None
    schedule_factor: Annotated[float | None, rules.FACTOR] = None
    warmup_epochs: Epochs = 0
    weight_decay: Annotated[float | None, rules.NOT_NEGATIVE] = None
    clip_norm: OptionalPositive = None
    max_norm: OptionalPositive = None


@dataclass(frozen=True)
class ComputationSettings:
    """Arithmetic, device and array library.

    Attributes
    ----------
    arithmetic
        reproducible gives the same bits with every library, device and number of threads; native is the
        library's own and the fastest.
    dtype
        Floating-point type: auto is float64 for reproducible and float32 for native.
    device
        Device to compute on. auto takes a GPU if one works; cuda (NVIDIA), gpu (Intel) and mps (Apple, native
        arithmetic only) fall back to the CPU with a warning.
    backend
        Array library. auto takes NumPy on the CPU; on cuda the first of CuPy, PyTorch and JAX that works; on
        gpu dpnp; on mps PyTorch.
    workers
        Blocks of samples computed side by side by NumPy and PyTorch; auto makes it the processors there are.
    jobs
        Trainings of --repeats, or of several --learning-rate, side by side, each in a process of its own with
        its share of the processors; auto makes it the processors there are.
    require_device
        Stop with an error where --device auto, cuda or gpu would take the CPU.
    """

    arithmetic: Arithmetic = "reproducible"
    dtype: Literal["auto", "float32", "float64"] = "auto"
    device: Annotated[str, rules.DEVICE] = "auto"
    backend: BackendName = "auto"
    workers: AutoOrNumber = "auto"
    jobs: AutoOrNumber = 1
    require_device: bool = False


@dataclass(frozen=True)
class RunSettings:
    """Records and output of the run.

    Attributes
    ----------
    log_every
        Epochs from one printed and recorded line to the next; auto makes it 1 for up to 20 epochs or with
        --patience, else a tenth of them. The last epoch always has a line, and so has the best of --patience.
    checkpoint_seconds
        Save a checkpoint after so many seconds too. (default: at the end of each epoch)
    keep_checkpoint_every
        Keep a checkpoint after every so many epochs, from which xpnet verify --between proves a part of the
        training. (default: only the last)
    resume
        Go on with the training of this run, named by its folder or its name in --out, with its settings.
        (default: start anew)
    resume_or_start
        Go on with the run that --name names, if there is one, else start it: for jobs that are started again.
    extend
        Start a new run from the end of this completed one, named likewise, with its settings but for the
        flags beside it; --epochs are those to add. (default: start anew)
    out
        Folder that receives the folder of this run.
    name
        Name of the folder of this run. (default: date and time)
    overwrite
        Replace the run that --name names, if there is one.
    tags
        Words to find the run by, as in xpnet runs list --tag NAME. (default: none)
    report
        Write report.html, the page that shows the run in a browser.
    track
        Show the run in these experiment trackers too, each installed with the extra of its name. (default:
        none)
    quiet
        Print errors and warnings only.
    debug
        Show the whole traceback of an error, and run each training step as it is written, as XPNET_COMPILE=0
        does: a debugger then stops in the mathematics.
    """

    log_every: AutoOrNumber = "auto"
    checkpoint_seconds: OptionalPositive = None
    keep_checkpoint_every: OptionalNumber = None
    resume: OptionalPath = None
    resume_or_start: bool = False
    extend: OptionalPath = None
    out: Annotated[Path, rules.PATH] = Path("runs")
    name: Annotated[str | None, rules.FOLDER_NAME] = None
    overwrite: bool = False
    tags: Annotated[Names, rules.TAGS] = ()
    report: bool = True
    track: Annotated[tuple[TrackerName, ...], rules.some_of(get_args(TrackerName))] = ()
    quiet: bool = False
    debug: bool = False


BOOKKEEPING = """
    debug jobs keep_checkpoint_every name out overwrite quiet report resume tags track
""".split()  # noqa: SIM905
"""Settings that do not affect training."""


def names_of(*topics: type) -> set[str]:
    """Return the names of the settings of these classes."""
    return {field.name for topic in topics for field in fields(topic)}
