"""The offline stand-in rule-sim-v1: no language model, but rules behind the same protocol."""
