"""Generator of textbook-like Python function exercises, every one executed when it is made."""
