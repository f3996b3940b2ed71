import os
import signal
import threading

import pytest

from lfr_darts_jax.runtime.preemption import Interrupted, Preemption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_waits_and_the_second_does_not(number):
  before = signal.getsignal(number)
  saved = []
  with Preemption() as interrupt:
    interrupt.maybe_stop(saved.append)
    os.kill(os.getpid(), number)
    with pytest.raises(Interrupted) as error:
      interrupt.maybe_stop(saved.append)
    assert error.value.number == number and saved == [False, True]
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), number)
  assert signal.getsignal(number) == before


def test_a_signal_during_a_save_that_did_not_know_of_it_waits_for_the_next_point():
  with Preemption() as interrupt:
    interrupt.maybe_stop(lambda stopping: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted):
      interrupt.maybe_stop(lambda stopping: None)


def test_a_signal_between_two_phases_is_kept():
  interrupt = Preemption()
  with interrupt:
    os.kill(os.getpid(), signal.SIGINT)
  with interrupt, pytest.raises(Interrupted):
    interrupt.maybe_stop(lambda stopping: None)


def test_a_signal_ends_a_wait_at_once_and_without_one_the_result_comes():
  saved = []
  with Preemption() as interrupt:
    assert interrupt.run_interruptible(lambda: 3, saved.append) == 3
    with pytest.raises(ZeroDivisionError):
      interrupt.run_interruptible(lambda: 1 / 0, saved.append)
    assert saved == []
    never = threading.Event()
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(Interrupted) as error:
      interrupt.run_interruptible(never.wait, saved.append)
    never.set()
  assert error.value.number == signal.SIGTERM and saved == [True]


def test_in_another_thread_signals_stay_what_they_were():
  before, seen = signal.getsignal(signal.SIGINT), []

  def work():
    with Preemption() as interrupt:
      interrupt.maybe_stop(seen.append)
      seen.append(signal.getsignal(signal.SIGINT))

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert seen == [False, before] and signal.getsignal(signal.SIGINT) == before


def test_a_handler_that_is_not_python_s_is_left_alone(monkeypatch):
  set_anew = []
  monkeypatch.setattr(signal, "getsignal", lambda number: None)
  monkeypatch.setattr(signal, "signal", lambda *pair: set_anew.append(pair))
  with Preemption():
    pass
  assert set_anew == []


def test_a_notice_of_preemption_counts_as_sigterm():
  saved = []
  with pytest.raises(Interrupted) as error:
    Preemption().maybe_stop(saved.append, preempted=True)
  assert error.value.number == signal.SIGTERM and saved == [True]
