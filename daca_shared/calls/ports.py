"""What goes wrong with ports."""


class PortTaken(Exception):
    """Another process listens on the port."""

    def __init__(self, host: str, port: int, variable: str) -> None:
        super().__init__(
            f"Port {port} on {host} is taken (or may not be used); "
            f"stop what listens there, or set {variable} to another"
        )
