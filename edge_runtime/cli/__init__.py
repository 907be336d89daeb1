"""The command line `edge-classify`."""
