"""fisherfield."""
