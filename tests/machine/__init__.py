"""Tests that need a machine of their own: systemd as PID 1, root, and nothing on it that matters."""
