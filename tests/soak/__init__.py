"""Random faults on many bots under load, round after round, with an audit after each."""
