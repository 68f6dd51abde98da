"""Which model replies, and how."""
