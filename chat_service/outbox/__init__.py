"""Messages on their way to analytics."""
