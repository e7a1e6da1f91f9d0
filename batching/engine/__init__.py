"""The batching engine: it turns many waiting requests into few model calls and splits the replies.

Pure asyncio without framework, database or clock of its own. Read the modules in this order:
`lanes` (the rules), `planner` (when a batch leaves), `dispatcher` (waits for that time), `prompt`
(many requests in one prompt), `splitter` (one reply into many answers), `call` (one model call) and
`runner` (all calls of one batch).
"""
