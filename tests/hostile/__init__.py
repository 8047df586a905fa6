"""A hostile host: it says anything, by a seed, wherever fleet listens. `make fuzz` plays many rounds."""
