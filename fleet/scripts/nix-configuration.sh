# Prints NIX_REMOTE, and `name = value` for each setting of Nix. The words for that changed with Nix 2.20.
echo "NIX_REMOTE=$NIX_REMOTE"
set -- --extra-experimental-features nix-command
nix "$@" config show 2>/dev/null || nix "$@" show-config
