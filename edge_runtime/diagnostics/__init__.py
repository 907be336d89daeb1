"""Parity traces, self-test and timing."""
