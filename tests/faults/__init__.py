"""Faults on the order path, with real processes: gateway, terminal and bots."""
