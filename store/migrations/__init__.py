"""Alembic migrations, one folder a database; each is applied by its owning process at its start."""
