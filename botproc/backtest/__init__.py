"""Backtests: the trader and the paper terminal of live bots in one process, as fast as the data allows."""
