"""Ctrl-C is noted first, and obeyed at a second press."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from ctrl_c import handled_by

from xpnet._lib.interrupts import defer_interrupts, terminate_as_interrupt

TERMINATION = [signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)]  # Windows has no SIGHUP


@pytest.fixture(autouse=True)
def pythons_handler():
    """What Python does at Ctrl-C, also where it was started with SIGINT ignored."""
    with handled_by(signal.default_int_handler):
        yield


@pytest.mark.parametrize("number", [signal.SIGINT, *TERMINATION])
def test_the_first_signal_is_noted_and_the_second_interrupts(number):
    notices, default = [], signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    with handled_by(default, number):
        with terminate_as_interrupt() as terminate:
            with defer_interrupts(lambda: notices.append(1)) as stop:
                assert not stop()
                signal.raise_signal(number)
                assert stop()
                with pytest.raises(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)
            assert (notices, terminate.number) == ([1], number)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        assert signal.getsignal(number) is default  # as before


def test_a_signal_that_is_ignored_stays_ignored():
    number = TERMINATION[1]
    with handled_by(signal.SIG_IGN, number), terminate_as_interrupt():  # as by nohup
        signal.raise_signal(number)


def test_nothing_is_deferred_outside_the_main_thread():
    def deferred():
        with defer_interrupts(lambda: None) as stop:
            return stop()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(deferred).result() is False
