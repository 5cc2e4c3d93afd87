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


def press():
    signal.raise_signal(signal.SIGINT)


def test_the_first_press_is_noted_and_the_second_interrupts():
    notices = []
    with defer_interrupts(lambda: notices.append(1)) as stop:
        assert not stop()
        press()
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            press()
    assert notices == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # as before


@pytest.mark.parametrize("number", TERMINATION)
def test_termination_is_deferred_too_and_told_apart(number):
    with handled_by(signal.SIG_DFL, number):
        with terminate_as_interrupt() as terminate:
            assert terminate.number == signal.SIGINT
            with defer_interrupts(lambda: None) as stop:
                signal.raise_signal(number)
                assert stop()
                with pytest.raises(KeyboardInterrupt):
                    press()
            assert terminate.number == number
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_DFL


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
