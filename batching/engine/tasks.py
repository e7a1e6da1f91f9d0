"""Tells a cancelled task from one in which a library raised CancelledError by itself."""

import asyncio


def is_being_cancelled() -> bool:
    """True if somebody cancelled the current task, which must then end.

    A CancelledError in any other task is an error like any other: a library raised it.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
