"""A procedural world of sprites that move: scenes, exact captions, pictures. What show-lite learns from."""
