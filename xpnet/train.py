"""``python -m xpnet.train``: from the command line to a trained network and its record."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from xpnet.cli import INTERRUPTED, complain, guarded
from xpnet.config import TrainConfig, parse, resolved, to_toml
from xpnet.errors import ConfigError
from xpnet.interrupts import deferred
from xpnet.machine import available_cpus

# What is imported below, inside the functions, loads NumPy; --help does without.
if TYPE_CHECKING:
    from xpnet.backends.base import Backend
    from xpnet.backends.resolve import Selection
    from xpnet.console import Console
    from xpnet.datasets import Dataset
    from xpnet.experiment import Experiment
    from xpnet.loop import Evaluation, Fitted
    from xpnet.model import Parameters
    from xpnet.tracking import Run

SLOW_FLOAT64 = 4
"""Times that float32 is as fast as float64 on a GPU, above which it is worth a note."""
REQUIRE_DEVICE_VARIABLE = "XPNET_REQUIRE_DEVICE"


def main(argv: Sequence[str] | None = None, prog: str = "python -m xpnet.train") -> int:
    """Train as the command line asks and return the exit code.

    0 done; 2 bad input, unusable device or backend; 3 diverged; 130 interrupted; 1 a fault of xpnet.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: _command(words, prog), debug="--debug" in words)


def _command(words: list[str], prog: str) -> int:
    command = parse(words, prog)
    if command.print_config:
        sys.stdout.write(to_toml(command.config))
        return 0
    return train(command.config, [prog, *words])


def train(config: TrainConfig, command: list[str]) -> int:
    """Train, print and record what happens, and return the exit code."""
    from xpnet import datasets
    from xpnet.backends.resolve import resolve
    from xpnet.console import Console
    from xpnet.experiment import assemble

    require = config.require_device or os.environ.get(REQUIRE_DEVICE_VARIABLE) == "1"
    selection = resolve(config.device, config.backend, require_device=require)
    if selection.warning is not None:
        complain(f"warning: {selection.warning}")
    backend = selection.backend
    data = datasets.load(config.data, config.test_data)
    console = Console(quiet=config.quiet)
    with backend.scope(), backend.workers(_workers(config, backend)):
        experiment = assemble(config, data, backend)
        run = _start(config, command, selection, data)
        begin = time.perf_counter()

        def on_epoch(epoch: int, evaluation: "Evaluation | None", _: "Parameters") -> None:
            if evaluation is not None:
                seconds = round(time.perf_counter() - begin, 3)
                run.log({"epoch": epoch, **_training_figures(evaluation), "seconds": seconds})
            console.epoch(epoch, evaluation)

        with _recorded(run):
            _introduce(console, selection, data, experiment)
            stopping = partial(console.line, "stopping after this step; Ctrl-C again stops at once")
            with console.training(config.epochs), deferred(stopping) as stop:
                fitted = experiment.fit(on_epoch, stop)
            seconds = round(time.perf_counter() - begin, 3)
            fingerprint = _save(run, experiment, fitted.parameters)
            metrics = {**_figures(experiment, fitted, console), "seconds": seconds}
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


def _workers(config: TrainConfig, backend: "Backend") -> int:
    if config.workers == "auto":
        return available_cpus()
    if not backend.parallel_blocks:
        msg = f"--workers: the {backend.name} backend has threads of its own: leave --workers out"
        raise ConfigError(msg)
    return config.workers


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
    console: "Console", selection: "Selection", data: "Dataset", experiment: "Experiment"
) -> None:
    """Print what is about to be trained, where, and on what."""
    from xpnet import __version__
    from xpnet.experiment import shown

    backend, config = selection.backend, experiment.config
    reason = f" ({selection.reason})" if selection.reason else ""
    console.line(
        f"xpnet {__version__}: {backend.name} {backend.version} on {backend.device_name}{reason}"
    )
    ratio = _float64_ratio(backend.device_name) if config.float_type == "float64" else None
    if ratio is not None and ratio > SLOW_FLOAT64:
        console.line(
            f"float64 is 1/{ratio} as fast as float32 on this GPU: "
            "--arithmetic native computes in float32"
        )
    console.line(
        f"{data.name}: {len(data.y_train)} training and {len(data.y_test)} test samples, "
        f"{data.features} features, {data.classes} classes"
    )
    console.line(
        f"network {shown(experiment.sizes)}, {config.arithmetic} {config.float_type}, "
        f"batch size {config.batch_size}, learning rate {config.learning_rate}, seed {config.seed}"
    )


def _float64_ratio(device: str) -> int | None:
    from xpnet.backends.base import cuda_index, float64_ratio

    index = cuda_index(device)
    return None if index is None else float64_ratio(index)


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


def _save(run: "Run", experiment: "Experiment", parameters: "Parameters") -> str:
    """Write the model file and return the fingerprint of the parameters."""
    from xpnet.checkpoint import SavedModel, fingerprint

    layers = experiment.on_host(parameters)
    normalization = experiment.normalization
    statistics = {"shift": normalization.shift, "scale": normalization.scale}
    run.save_model(SavedModel(layers, experiment.sizes, normalization.kind, statistics))
    return fingerprint(layers)


def _training_figures(evaluation: "Evaluation") -> dict[str, float]:
    return {"train_loss": evaluation.loss, "train_accuracy": evaluation.accuracy}


def _figures(experiment: "Experiment", fitted: "Fitted", console: "Console") -> dict[str, Any]:
    """Evaluate the trained parameters, print the test figures and return all of them."""
    from xpnet.loop import evaluate
    from xpnet.metrics import accuracy_per_class

    engine, to_host = experiment.engine, experiment.backend.to_host
    trained = evaluate(engine, fitted.parameters, experiment.training)
    tested = evaluate(engine, fitted.parameters, experiment.test)
    predicted, labels = to_host(tested.predictions), to_host(experiment.test.labels)
    per_class = accuracy_per_class(predicted, labels, experiment.sizes[-1])
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
