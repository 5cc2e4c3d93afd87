"""The outcome of a recorded training: the model, its evaluation, and the report."""

import sys
from dataclasses import dataclass

from xpnet._lib.text import complain
from xpnet.nn.metrics import class_metrics
from xpnet.storage.model_file import encode_model, fingerprint
from xpnet.storage.record import MODEL_FILE
from xpnet.storage.run import Run
from xpnet.training import callbacks
from xpnet.training.console import TrainingConsole
from xpnet.training.final_parameters import FinalParameters
from xpnet.training.loop import FitResult
from xpnet.training.trainer import Trainer


@dataclass(eq=False)
class RecordOutcome(callbacks.Callback):
    """Saves and evaluates the trained model, completes and prints the record, and writes the report."""

    trainer: Trainer
    run: Run
    metrics: callbacks.RecordMetrics
    final: FinalParameters
    console: TrainingConsole

    def on_train_end(self, result: FitResult) -> None:
        """Complete the record."""
        trainer, run, print_line = self.trainer, self.run, self.console.print_line
        epochs = result.state.epoch
        model = trainer.model(result.best)
        run.write(MODEL_FILE, encode_model(model))
        digest = fingerprint(model.layers, model.norms)
        metrics = evaluate_result(trainer, result, self.console)
        metrics |= {"epochs": epochs, "seconds": self.metrics.seconds, **self.final.metrics}
        is_complete = not (result.interrupted or result.state.batch)  # a callback may stop within an epoch
        run.finish("completed" if is_complete else "interrupted", metrics=metrics, fingerprint=digest)
        if result.interrupted:
            saved = f"what was trained is saved, and --resume {run.folder} goes on"
            print_line(f"interrupted after {epochs} epochs; {saved}")
        elif epochs < trainer.config.epochs:
            best = f", the best was {self.final.best_epoch}" if self.final.metrics else ""
            print_line(f"stopped after {epochs} epochs{best}")
        print_line(f"fingerprint   {digest}")
        print_line(f"run           {run.folder}")
        if trainer.config.report and trainer.ranks.rank == 0:
            self._write_report()

    def close(self) -> None:
        """Mark the run failed or interrupted if an error ended training."""
        if (error := sys.exception()) is not None:
            self.run.fail(error)

    def _write_report(self) -> None:
        """Write the report; print a warning if that fails."""
        folder = self.run.folder
        try:
            from xpnet.report import write_report

            digest = self.run.record["data"]["sha256"]
            path = folder / write_report(self.run.location, self.trainer.data, sha256=digest).name
        except Exception as error:  # noqa: BLE001 - the network is trained and saved
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            complain(f"warning: no report: {reason}: xpnet report {folder} tries again")
        else:
            self.console.print_line(f"report        {path}")


def evaluate_result(
    trainer: Trainer, result: FitResult, console: TrainingConsole | None = None
) -> dict[str, float | list[float | None] | None]:
    """Return the metrics of the trained parameters; print those on validation and test samples."""
    to_host = trainer.backend.to_host
    metrics: dict[str, float | list[float | None] | None] = {**trainer.evaluate(result.best).metrics("train")}
    validation = trainer.validate(result.best)
    if validation is not None:
        metrics |= validation.metrics("validation")
        if console is not None:
            console.print_evaluation("validation", validation)
    if trainer.data.has_test:
        test = trainer.evaluate_test(result.best)
        predicted, labels = to_host(test.predictions), to_host(trainer.test.labels)
        per_class = [each.recall for each in class_metrics(predicted, labels, trainer.network.sizes[-1])]
        metrics |= {**test.metrics("test"), "test_accuracy_per_class": per_class}
        if console is not None:
            console.print_test_evaluation(test, per_class, trainer.data.columns.classes)
    return metrics
