"""Voice conversion: what is said stays, and who says it changes."""
