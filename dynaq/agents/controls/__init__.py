"""Policies that keep the comparison honest: what is cheap, what is standard, and the agent without its planning."""
