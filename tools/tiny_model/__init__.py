"""The embedded model: its careless teacher, its warm start, and how well it copies."""
