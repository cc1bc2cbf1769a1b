"""The verbs by theme; each module registers its own."""
