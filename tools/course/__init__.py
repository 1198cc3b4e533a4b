"""Run the course headless, publish its outputs, and check the acceptance targets."""
