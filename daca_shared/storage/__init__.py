"""Durable storage, on which both services build their stores."""
