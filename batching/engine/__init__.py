"""How waiting requests become one model call, and how its reply comes apart again.

Pure asyncio: no framework, no database, no clock of its own. Read in this order: `lanes` (the
rules), `planner` (when a batch leaves), `dispatch` (waiting for that moment), `combine` (one prompt
of many), `split` (many answers of one reply), `call` and `runner` (the calls of one batch).
"""
