"""A circuit breaker: a model service that fails again and again is left alone, then probed."""

THRESHOLD = 8
"""calls that were refused in a row before it opens"""
ROW_S = 3.0
"""for which there was no reply at all before it opens"""
FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 30.0
MAX_ASKED_S = 60.0
"""what the service may ask for at most; its longer wishes are told to clients, not obeyed"""


class Breaker:
    """Pure: `now` is an argument, in seconds of one monotonic clock.

    Closed, calls go as they like. Open, none starts before the pause is over, and then one alone.
    Any reply closes it; a failed probe doubles the pause. What is told of calls from before the
    opening counts only if it is a reply.
    """

    def __init__(self) -> None:
        self.failures = 0
        """calls that failed since the last reply"""
        self.probes = 0
        """how many of them were made while it was open"""
        self._until: float | None = None
        self._since = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        return self._until is not None

    def allows(self, now: float) -> bool:
        return self._until is None or (now >= self._until and not self._probing)

    def begin(self) -> bool:
        """A call starts; True if it is the probe, which must be told to `end_probe`."""
        self._probing = self.is_open
        return self._probing

    def end_probe(self) -> None:
        """Whatever came of it: without a reply or a failure the next call is the probe."""
        self._probing = False

    def paused_s(self, now: float) -> float:
        """How long no call will start; 0 also while a probe may start."""
        return 0.0 if self._until is None else max(0.0, self._until - now)

    def succeed(self) -> None:
        self.failures = self.probes = 0
        self._until = None

    def fail(self, now: float, *, probe: bool = False, asked_s: float | None = None) -> None:
        """`asked_s` is how long the service asked to be left alone (RetryInfo)."""
        if self._until is not None and not probe:
            return  # it began before the breaker opened
        self._since = self._since if self.failures else now
        self.failures += 1
        if probe:
            self.probes += 1
        elif self.failures < THRESHOLD or now - self._since < ROW_S:
            return
        pause_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self.probes, 10))
        self._until = now + max(pause_s, min(asked_s or 0.0, MAX_ASKED_S))
