"""Models that stream: contract, registry, checkpoints, flow, layers, and a folder a family."""
