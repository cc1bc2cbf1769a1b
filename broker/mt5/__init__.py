"""A real MetaTrader 5 terminal, as a gateway holds it: the connection, its clock, its symbols, its bars."""
