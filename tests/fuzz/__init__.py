"""Everything that is decoded, fed with what may come: values of every message, torn frames, and noise."""
