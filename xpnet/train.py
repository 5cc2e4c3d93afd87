"""``python -m xpnet.train``: from the command line to a trained network and its record."""

import itertools
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from xpnet.config import TrainConfig, parse, resolved, to_toml
from xpnet.errors import BackendError, ConfigError, XPNetError
from xpnet.machine import available_cpus, available_memory

# What is imported below, inside the functions, loads NumPy; --help does without.
if TYPE_CHECKING:
    from xpnet.backends.base import Backend
    from xpnet.backends.resolve import Selection
    from xpnet.console import Console
    from xpnet.datasets import Dataset
    from xpnet.loop import Engine, Evaluation, Fitted, Samples
    from xpnet.model import Parameters
    from xpnet.normalization import Normalization
    from xpnet.tracking import Run

INTERRUPTED = 130
UNEXPECTED = 1
REQUIRE_DEVICE_VARIABLE = "XPNET_REQUIRE_DEVICE"


def main(argv: Sequence[str] | None = None, prog: str = "python -m xpnet.train") -> int:
    """Train as the command line asks and return the exit code.

    0 done; 2 bad input, unusable device or backend; 3 diverged; 130 interrupted; 1 a fault of xpnet.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        command = parse(words, prog)
        if command.print_config:
            sys.stdout.write(to_toml(command.config))
            return 0
        return train(command.config, [prog, *words])
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has left; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNEXPECTED
    except Exception as error:  # noqa: BLE001 - a user sees one line, whatever happens
        if "--debug" in words:
            traceback.print_exc()
        text = " ".join(str(error).split()) or "no details"
        if isinstance(error, XPNetError):
            _complain(text)
            return error.exit_code
        _complain(f"unexpected {type(error).__name__}: {text} (--debug shows where)")
        return UNEXPECTED


def train(config: TrainConfig, command: list[str]) -> int:
    """Train, print and record what happens, and return the exit code."""
    from xpnet import datasets, rng
    from xpnet.backends.resolve import resolve
    from xpnet.console import Console
    from xpnet.loop import Samples, fit
    from xpnet.normalization import fit_normalization
    from xpnet.optim import sgd

    require = config.require_device or os.environ.get(REQUIRE_DEVICE_VARIABLE) == "1"
    selection = resolve(config.device, config.backend, require_device=require)
    if selection.warning is not None:
        _complain(f"warning: {selection.warning}")
    backend = selection.backend
    data = datasets.load(config.data, config.test_data)
    sizes = _sizes(config, data)
    console = Console(quiet=config.quiet)
    with backend.scope(), backend.workers(_workers(config, backend)):
        normalization = fit_normalization(config.normalize, data.x_train)
        engine = _engine(config, backend, normalization)
        parameters = _initial_parameters(config, backend, sizes)
        samples = Samples(backend.from_host(data.x_train), backend.from_host(data.y_train))
        test = Samples(backend.from_host(data.x_test), backend.from_host(data.y_test))
        run = _start(config, command, selection, data)
        begin = time.perf_counter()

        def on_epoch(epoch: int, evaluation: "Evaluation | None") -> None:
            if evaluation is not None:
                seconds = round(time.perf_counter() - begin, 3)
                run.log({"epoch": epoch, **_training_figures(evaluation), "seconds": seconds})
            console.epoch(epoch, evaluation)

        with _recorded(run):
            _introduce(console, config, selection, data, sizes)
            with console.training(config.epochs):
                fitted = fit(
                    engine,
                    parameters,
                    samples,
                    sgd(config.learning_rate),
                    epochs=config.epochs,
                    batch_size=None if config.batch_size == "full" else config.batch_size,
                    order=lambda epoch: backend.from_host(
                        rng.permutation(config.seed, samples.count, epoch=epoch)
                    ),
                    log_every=config.log_every,
                    on_epoch=on_epoch,
                )
            seconds = time.perf_counter() - begin
            fingerprint = _save(run, backend, fitted.parameters, normalization, sizes)
            metrics = _figures(engine, backend, fitted, samples, test, console)
            metrics["seconds"] = round(seconds, 3)
            run.finish(
                "interrupted" if fitted.interrupted else "completed",
                metrics=metrics,
                fingerprint=fingerprint,
            )
    if fitted.interrupted:
        console.line(f"interrupted after {fitted.epochs} epochs; what was trained is saved")
    console.line(f"fingerprint   {fingerprint}")
    console.line(f"run           {run.folder}")
    return INTERRUPTED if fitted.interrupted else 0


def _complain(text: str) -> None:
    print(f"xpnet: {text}", file=sys.stderr, flush=True)


def _sizes(config: TrainConfig, data: "Dataset") -> tuple[int, ...]:
    """Return features, hidden units and classes; refuse what the data or the memory cannot hold."""
    from xpnet.blocks import BLOCK_SIZE

    sizes = (data.features, *config.hidden, data.classes)
    samples = len(data.y_train)
    if config.batch_size != "full" and config.batch_size > samples:
        msg = f"--batch-size: expected at most the {samples} training samples, got {config.batch_size}"
        raise ConfigError(msg)
    parameters = sum(units * (inputs + 1) for inputs, units in itertools.pairwise(sizes))
    # Parameters, gradients and their drawing, and a block's activations, in eight bytes each.
    needed = 8 * (4 * parameters + 4 * BLOCK_SIZE * sum(sizes[1:]))
    memory = available_memory()
    if memory is not None and needed > memory:
        msg = (
            f"--hidden: a {'-'.join(map(str, sizes))} network has {parameters} parameters and needs "
            f"about {needed / 2**30:.0f} GiB, this machine has {memory / 2**30:.0f}: use fewer units"
        )
        raise ConfigError(msg)
    return sizes


def _workers(config: TrainConfig, backend: "Backend") -> int:
    if config.workers == "auto":
        return available_cpus()
    if not backend.parallel_blocks:
        msg = f"--workers: the {backend.name} backend has threads of its own: leave --workers out"
        raise ConfigError(msg)
    return config.workers


def _engine(config: TrainConfig, backend: "Backend", normalization: "Normalization") -> "Engine":
    from xpnet.arithmetic.native import Native
    from xpnet.loop import Engine

    if config.dtype == "float64" and not backend.has_float64:
        msg = f"{backend.name} has no float64 on {backend.device_name}: use --dtype float32"
        raise BackendError(msg)
    ops = Native(backend.xp, backend.device, getattr(backend.xp, config.dtype))
    return Engine(ops, normalization.on_device(ops, backend.from_host), backend.map_blocks)


def _initial_parameters(
    config: TrainConfig, backend: "Backend", sizes: tuple[int, ...]
) -> "Parameters":
    """Return the parameters to start from, on the device, in the dtype of the training."""
    from xpnet.layers import Linear
    from xpnet.model import initialize

    if config.init_from is None:
        layers = initialize(sizes, config.seed)
    else:
        from xpnet.checkpoint import load_model

        model = load_model(config.init_from)
        if model.sizes != sizes:
            found, expected = ("-".join(map(str, each)) for each in (model.sizes, sizes))
            msg = (
                f"--init-from: {config.init_from} holds a {found} network, "
                f"but --hidden and the data make it {expected}"
            )
            raise ConfigError(msg)
        layers = [Linear(layer["weight"], layer["bias"].reshape(-1, 1)) for layer in model.layers]
    return [
        Linear(*(backend.from_host(array.astype(config.dtype)) for array in layer))
        for layer in layers
    ]


def _start(
    config: TrainConfig, command: list[str], selection: "Selection", data: "Dataset"
) -> "Run":
    from xpnet import datasets
    from xpnet.tracking import Run

    return Run.start(
        config.out,
        config.name,
        config.overwrite,
        {
            "command": command,
            "config": resolved(config),
            "seed": config.seed,
            "device_requested": selection.device_requested,
            "device_used": selection.device_used,
            "device_reason": selection.reason,
            "backend": selection.backend.name,
            "data": {
                "name": data.name,
                "sha256": datasets.digest(data),
                "training_samples": len(data.y_train),
                "test_samples": len(data.y_test),
                "features": data.features,
                "classes": data.classes,
            },
        },
    )


def _introduce(
    console: "Console",
    config: TrainConfig,
    selection: "Selection",
    data: "Dataset",
    sizes: tuple[int, ...],
) -> None:
    """Print what is about to be trained, where, and on what."""
    from xpnet import __version__

    backend = selection.backend
    reason = f" ({selection.reason})" if selection.reason else ""
    console.line(
        f"xpnet {__version__}: {backend.name} {backend.version} on {backend.device_name}{reason}"
    )
    console.line(
        f"{data.name}: {len(data.y_train)} training and {len(data.y_test)} test samples, "
        f"{data.features} features, {data.classes} classes"
    )
    console.line(
        f"network {'-'.join(map(str, sizes))}, {config.arithmetic} {config.dtype}, "
        f"batch size {config.batch_size}, learning rate {config.learning_rate}, seed {config.seed}"
    )


@contextmanager
def _recorded(run: "Run") -> Iterator[None]:
    """See to it that the record of a training that ends early says how it ended."""
    try:
        yield
    except KeyboardInterrupt:
        run.finish("interrupted")
        raise
    except BaseException as error:
        run.finish("failed", error=" ".join(str(error).split()))
        raise


def _save(
    run: "Run",
    backend: "Backend",
    parameters: "Parameters",
    normalization: "Normalization",
    sizes: tuple[int, ...],
) -> str:
    """Write the model file and return the fingerprint of the parameters."""
    from xpnet.checkpoint import SavedModel, fingerprint

    layers = [
        {
            "weight": backend.to_host(layer.weight),
            "bias": backend.to_host(layer.bias).reshape(-1),
        }
        for layer in parameters
    ]
    statistics = {"shift": normalization.shift, "scale": normalization.scale}
    run.save_model(SavedModel(layers, sizes, normalization.kind, statistics))
    return fingerprint(layers)


def _training_figures(evaluation: "Evaluation") -> dict[str, float]:
    return {"train_loss": evaluation.loss, "train_accuracy": evaluation.accuracy}


def _figures(
    engine: "Engine",
    backend: "Backend",
    fitted: "Fitted",
    samples: "Samples",
    test: "Samples",
    console: "Console",
) -> dict[str, Any]:
    """Evaluate the trained parameters, print the test figures and return all of them."""
    from xpnet.loop import evaluate
    from xpnet.metrics import accuracy_per_class

    trained = evaluate(engine, fitted.parameters, samples)
    tested = evaluate(engine, fitted.parameters, test)
    per_class = accuracy_per_class(
        backend.to_host(tested.predictions),
        backend.to_host(test.labels),
        fitted.parameters[-1].bias.shape[0],
    )
    console.test(tested, per_class)
    return {
        "epochs": fitted.epochs,
        **_training_figures(trained),
        "test_loss": tested.loss,
        "test_accuracy": tested.accuracy,
        "test_accuracy_per_class": per_class,
    }


if __name__ == "__main__":
    sys.exit(main())
