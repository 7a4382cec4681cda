# SPDX-License-Identifier: Apache-2.0
"""Every wait of the machine code has a deadline; this is its one form."""

import time


class TimedOut(Exception):
    """Something did not happen in time; the message says what."""


class Deadline:
    """A point in time after which waiting for `what` is given up."""

    def __init__(self, seconds, what):
        self.seconds = seconds
        self.what = what
        self._end = time.monotonic() + seconds

    def remaining(self):
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())

    def check(self):
        """Raises TimedOut once the time is over."""
        if self.remaining() == 0.0:
            raise TimedOut(f"{self.what}: not within {self.seconds:g} s")

    def pause(self, seconds=0.1):
        """Waits a little between two looks at something that sends no event."""
        self.check()
        time.sleep(min(seconds, self.remaining()))
