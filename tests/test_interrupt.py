import os
import signal

import pytest

from lfr_darts_jax.interrupt import Interrupt
from lfr_darts_jax.interrupt import Interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_waits_and_the_second_does_not(number):
  before = signal.getsignal(number)
  with Interrupt() as interrupt:
    interrupt.check()
    os.kill(os.getpid(), number)
    assert interrupt.requested
    with pytest.raises(Interrupted) as error:
      interrupt.check()
    assert error.value.number == number
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), number)
  assert signal.getsignal(number) == before
