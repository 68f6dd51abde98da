"""Being called over gRPC, and calling."""
