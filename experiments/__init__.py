"""Command lines: train, evaluate, quickstart; and the configs of what the papers report."""
