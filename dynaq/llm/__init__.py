"""An LLM that plays the applicant: prompts, the client, labels, and the offline stand-in."""
