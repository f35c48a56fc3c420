def doctor_command() -> None:
    """Doctor."""
