"""Run the course headless, publish its outputs, and hold it to the acceptance bar."""
