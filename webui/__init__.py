"""The page: static ES modules and worklets, served as they are."""
