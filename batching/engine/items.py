"""Items in the queue and in a call, and what comes out of the call: answers and the report."""

from dataclasses import dataclass, field

from batching.engine.errors import GatewayError
from batching.engine.lanes import Priority
from batching.engine.prompt import CombinedPrompt
from batching.engine.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class QueuedItem:
    """A waiting request. Ids rise in the order of acceptance: the oldest item has the smallest id.
    (Of requests that are committed together, those with a chosen request id are sorted by it.)

    `target` is the time of acceptance plus the latency target of the lane; among due lanes the one
    with the smallest target goes first. `exchange` names the HTTP exchange that brought the
    request. `generation` distinguishes requests that used the same id one after another. Both are
    empty where they are not known. `tenant` takes turns with the others of the lane: it is the
    client or, under open access, the username.
    """

    id: int
    priority: Priority
    accepted: float
    due: float
    deadline: float
    target: float
    input_tokens: int = 0
    output_tokens: int = 0
    client: int = 0
    username: str = ""
    tenant: str = ""
    request_id: str = ""
    exchange: str = ""
    generation: int = 0


@dataclass(slots=True)
class BatchItem:
    """A claimed request on its way through the calls of its batch. Times are event-loop seconds.

    `streamed`: the client reads the answer while it is written. `called` is the time at which the
    first call began. The answer to an item with a `suspicion` failed a leak check. `runaways` is
    the number of calls that ended because the answer to the item did not. An item with either is
    retried alone. `spent` is its share of the calls that have ended, and `estimated` says that a
    part of it is an estimate.
    """

    id: int
    prompt: str
    output_tokens: int
    deadline: float
    target: float
    attempts: int = 0
    streamed: bool = False
    finished: bool = False
    request_id: str = ""
    called: float | None = None
    suspicion: str = ""
    runaways: int = 0
    spent: TokenUsage = field(default_factory=TokenUsage)
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """`estimated`: it was released before the reply had ended, or no usage came with its end."""

    text: str
    finish_reason: str
    usage: TokenUsage
    estimated: bool


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A call that is recorded as started; `id` is the id of its record."""

    id: int
    prompt: CombinedPrompt


@dataclass(slots=True)
class CallReport:
    """The result of a call. `shares` holds the share of each item in `usage`, by item id.

    `estimated`: the reply broke off, or its end came without the usage.
    """

    call: PreparedCall
    reply: str = ""
    finish_reason: str = ""
    error: GatewayError | None = None
    perhaps_billed: bool = False
    usage: TokenUsage | None = None
    estimated: bool = False
    shares: dict[int, TokenUsage] = field(default_factory=dict)
    first_token_s: float | None = None
    duration_s: float = 0.0
    request_ids: tuple[str, ...] = ()
