"""What both services share about calling and being called; no business rules."""
