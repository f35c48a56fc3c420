def list_command() -> None:
    """List."""
