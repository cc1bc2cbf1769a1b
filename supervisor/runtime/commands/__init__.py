"""What can be asked over the control socket, by theme. Each handler takes (args, cause id)."""
