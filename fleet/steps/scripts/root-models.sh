# Keeps models from the garbage collector, those that are on their way too. Arguments: their store paths.
set -eu
mkdir -p /nix/var/nix/gcroots/fleet-models
for path; do ln -sfn "$path" "/nix/var/nix/gcroots/fleet-models/${path##*/}"; done
