# Prints which engine for containers there is.
command -v docker || command -v podman
