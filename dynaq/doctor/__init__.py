"""Checks of what a night stands on: each looks at one part and says what to do about it."""
