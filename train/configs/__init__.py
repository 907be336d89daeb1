"""Training configs: schema, loading, and the TOML files themselves."""
