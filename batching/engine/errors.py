"""Why a request of a batch got no answer: one class per cause, with its HTTP status and code."""

from typing import ClassVar


class GatewayError(Exception):
    """The gateway could not answer this request.

    `str(error)` is a sentence for the client. `retry_after_s` is set where waiting helps.
    """

    status: ClassVar[int] = 502
    code: ClassVar[str] = "upstream_error"
    retry_after_s: float | None = None

    def __init__(self, detail: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(detail or (type(self).__doc__ or "").strip())
        self.retry_after_s = retry_after_s if retry_after_s is not None else self.retry_after_s


class RequestConflict(GatewayError):
    """A request with this request_id exists already; use a new request_id."""

    status = 409
    code = "request_conflict"


class Cancelled(GatewayError):
    """The request was cancelled before it was sent to the model."""

    status = 409
    code = "cancelled"


class RequestNotFound(GatewayError):
    """There is no request with this request_id."""

    status = 404
    code = "not_found"


class AlreadyDispatched(GatewayError):
    """The request has left the queue and cannot be cancelled any more."""

    status = 409
    code = "already_dispatched"


class AmbiguousRequest(GatewayError):
    """Several usernames have a request with this request_id; name one with ?username=."""

    status = 409
    code = "ambiguous_request"


class TooLarge(GatewayError):
    """The prompt is larger than what one model call may hold."""

    status = 413
    code = "too_large"


class Blocked(GatewayError):
    """The model refused this prompt or its answer for safety reasons."""

    code = "blocked"


class Truncated(GatewayError):
    """The model's answer did not fit the output limit of this priority."""

    code = "truncated"


class MissingAnswer(GatewayError):
    """The model's replies held no usable answer to this prompt."""

    code = "missing_answer"


class UpstreamError(GatewayError):
    """The model service refused the call or sent an unreadable reply."""


class UpstreamRejectedKey(GatewayError):
    """The model service rejected the gateway's API key; staff must set a valid one."""

    code = "upstream_rejected_key"


class QueueFull(GatewayError):
    """Too many requests of this priority are waiting."""

    status = 503
    code = "queue_full"
    retry_after_s = 1.0


class ShuttingDown(GatewayError):
    """The gateway is shutting down."""

    status = 503
    code = "shutting_down"
    retry_after_s = 5.0


class NoApiKey(GatewayError):
    """The gateway has no model key; staff must set one in the settings or as GEMINI_API_KEY."""

    status = 503
    code = "no_api_key"
    retry_after_s = 60.0


class UpstreamUnavailable(GatewayError):
    """The model service is overloaded or cannot be reached."""

    status = 503
    code = "upstream_unavailable"
    retry_after_s = 5.0


class TimedOut(GatewayError):
    """No answer came within the time this request may wait."""

    status = 504
    code = "timeout"


ERRORS_BY_CODE = {error.code: error for error in GatewayError.__subclasses__()}


def error_from_code(code: str, detail: str, retry_after_s: float | None = None) -> GatewayError:
    """Rebuilds an error that another process sent by its code."""
    return ERRORS_BY_CODE.get(code, UpstreamError)(detail, retry_after_s=retry_after_s)
