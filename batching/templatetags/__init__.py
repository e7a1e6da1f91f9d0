"""Tags and filters of the gateway's templates."""
