# Prints the layers of each image that the engine $1 has, the lowest first: a list in JSON a line.
"$1" image ls --quiet --no-trunc | sort -u | xargs -r "$1" image inspect --format '{{json .RootFS.Layers}}'
