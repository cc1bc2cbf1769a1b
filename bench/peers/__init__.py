"""Other process managers, each in an environment of its own, with the same bots and the same measures."""
