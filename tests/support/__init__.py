"""What several tests need: a PostgreSQL, databases in it, and ways to wait for facts."""
