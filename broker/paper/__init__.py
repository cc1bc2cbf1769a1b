"""The paper terminal: MetaTrader 5's API over an account of its own and a market that plays back or is made."""
