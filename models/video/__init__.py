"""Open-Sora video: transformers, autoencoders, samplers, conditioning, and streams of pictures."""
