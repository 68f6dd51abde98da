"""Keeps one exact message count per user."""
