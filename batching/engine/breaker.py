"""Pauses all calls when the model service keeps failing, and probes it with one call at a time."""

# The breaker opens after this many failures without a reply between them ...
MIN_FAILURES = 8
# ... if at least this many seconds lie between the first failure and the last.
MIN_FAILING_S = 3.0
FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 30.0
# The service may request a pause of at most this length; clients still receive the full length.
MAX_REQUESTED_PAUSE_S = 60.0


class Breaker:
    """A circuit breaker. `now` is in seconds of one monotonic clock.

    While it is closed, calls start freely. While it is open, no call starts before the pause is
    over, and then only one: the probe. A reply closes the breaker; a failed probe doubles the
    pause. Failures of calls that began before the breaker opened are ignored; successes close it.
    """

    def __init__(self) -> None:
        self.failures = 0  # since the last reply
        self.probes = 0  # failed probes since the breaker opened
        self._paused_until: float | None = None
        self._failing_since = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        return self._paused_until is not None

    def allows(self, now: float) -> bool:
        return self._paused_until is None or (now >= self._paused_until and not self._probing)

    def begin(self) -> bool:
        """Registers a new call. Returns True if it is the probe, which needs `end_probe`."""
        self._probing = self.is_open
        return self._probing

    def end_probe(self) -> None:
        """Allows another probe. Call it after every probe, whatever its result."""
        self._probing = False

    def paused_s(self, now: float) -> float:
        """Seconds until a call may start; 0 also while a probe may start."""
        return 0.0 if self._paused_until is None else max(0.0, self._paused_until - now)

    def succeed(self) -> None:
        self.failures = self.probes = 0
        self._paused_until = None

    def fail(self, now: float, *, probe: bool = False, retry_after_s: float | None = None) -> None:
        """`retry_after_s` is the pause that the service requested (RetryInfo)."""
        if self._paused_until is not None and not probe:
            return  # The call began before the breaker opened.
        self._failing_since = self._failing_since if self.failures else now
        self.failures += 1
        if probe:
            self.probes += 1
        elif self.failures < MIN_FAILURES or now - self._failing_since < MIN_FAILING_S:
            return
        pause_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self.probes, 10))
        self._paused_until = now + max(pause_s, min(retry_after_s or 0.0, MAX_REQUESTED_PAUSE_S))
