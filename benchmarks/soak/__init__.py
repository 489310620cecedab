"""Long, mixed and hostile traffic against the real service, every answer compared."""
