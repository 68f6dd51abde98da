"""Durable storage that both services build their own stores on."""
