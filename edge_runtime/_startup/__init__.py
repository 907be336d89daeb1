"""What makes one photo fast: replacements for standard modules that are slow to import."""
