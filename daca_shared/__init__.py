"""What both services build on."""
