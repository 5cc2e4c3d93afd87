"""Callbacks of the training loop: evaluation, Ctrl-C, comparison of ranks."""

import math
from collections.abc import Callable
from contextlib import ExitStack

from xpnet._lib.interrupts import defer_interrupts
from xpnet.distributed.ranks import ALONE
from xpnet.errors import BackendError, DivergedError
from xpnet.training.final_parameters import FinalParameters
from xpnet.training.loop import INTERRUPTED, Callback, EpochLog, FitResult
from xpnet.training.step import TrainState
from xpnet.training.trainer import Trainer


class Evaluate(Callback):
    """Evaluates the validation samples in every epoch, and the training samples in logged epochs.

    Parameters
    ----------
    first, last
        The first and the last epoch, which are always logged; by default 0 and that of the settings.
    final
        Its best epochs, and the one in which it ends training, are always logged too.
    """

    def __init__(self, first: int = 0, last: int | None = None, final: FinalParameters | None = None) -> None:
        self._first, self._last, self._final = first, last, final

    def on_epoch_end(self, trainer: Trainer, log: EpochLog) -> None:
        """Add the evaluations to the log.

        Raises
        ------
        DivergedError
            The training loss is not finite.
        """
        config, log.validation = trainer.config, trainer.validate(log.state)
        last = config.epochs if self._last is None else self._last
        is_regular = log.epoch % config.log_interval == 0 or log.epoch in (self._first, last)
        if is_regular or (self._final is not None and self._final.is_decisive(log)):
            log.training = trainer.evaluate(log.state)
            if not math.isfinite(log.training.loss):
                raise DivergedError.in_epoch(log.epoch)


class StopOnInterrupt(Callback):
    """Ends training before the next step after Ctrl-C; a second Ctrl-C interrupts immediately.

    Of the processes that share the training all end if one of them is interrupted. ``notify`` is called with
    a line of text at the first Ctrl-C.
    """

    def __init__(self, notify: Callable[[str], None] = lambda _: None) -> None:
        self._notify, self._ranks, self._stack = notify, ALONE, ExitStack()
        self._is_pressed: Callable[[], bool] = lambda: False

    @property
    def stop(self) -> str | None:  # type: ignore[override]
        """The reason to end training, or None."""
        return INTERRUPTED if self._ranks.max(self._is_pressed()) else None

    def on_train_begin(self, trainer: Trainer, state: TrainState) -> None:  # noqa: ARG002
        """Defer Ctrl-C."""
        self._ranks = trainer.ranks
        deferred = defer_interrupts(
            lambda: self._notify("stopping after this step; Ctrl-C again stops at once")
        )
        self._is_pressed = self._stack.enter_context(deferred)

    def on_train_end(self, trainer: Trainer, result: FitResult) -> None:  # noqa: ARG002
        """Let Ctrl-C interrupt again."""
        self.close()

    def close(self) -> None:
        """Let Ctrl-C interrupt again."""
        self._stack.close()


class CompareRanks(Callback):
    """Compares the parameters of all ranks after each epoch: only a faulty machine has other ones."""

    def on_epoch_end(self, trainer: Trainer, log: EpochLog) -> None:
        """Compare.

        Raises
        ------
        BackendError
            A rank has other parameters than most.
        """
        ranks = trainer.ranks
        digests = ranks.gather(trainer.fingerprint(log.state))
        usual = max(digests, key=digests.count)
        for rank, digest in enumerate(digests):
            if digest != usual:
                problem = f"has other parameters after epoch {log.epoch}: is its memory or processor faulty?"
                error = BackendError.at(ranks.hosts[rank], problem, rank=rank)
                error.shared = True
                raise error
