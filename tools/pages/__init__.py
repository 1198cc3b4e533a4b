"""The pages of docs/ that are computed from recorded runs."""
