"""The live board: its state, and the feed that sends it to every watcher."""
