"""Answers chat messages with an agent that knows how many the user has sent."""
