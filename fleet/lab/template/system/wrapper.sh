#!/bin/sh
# NixOS's own switch-to-configuration, in the environment that the wrapper of a NixOS system gives it (nixpkgs,
# nixos/modules/system/activation/switchable-system.nix). The program is the host's, and no part of the closure.
toplevel=@toplevel@
export OUT=$toplevel TOPLEVEL=$toplevel DISTRO_ID=nixos SYSTEMD=/usr LOCALE_ARCHIVE=
export INSTALL_BOOTLOADER="$toplevel/lab/imitation install-boot-loader"
export PRE_SWITCH_CHECK="$toplevel/lab/imitation pre-switch-check"

case ${1-} in
    switch | test)
        # With the checks, where there are some: the program has taken its lock by then.
        [ "${NIXOS_NO_CHECK-}" != 1 ] || "$toplevel/lab/imitation" switch-script "$toplevel" "$1" || exit 1
        if [ -e "$toplevel/lab/switch-exit" ]; then
            @program@ "$@"
            read -r status <"$toplevel/lab/switch-exit"
            exit "$status"
        fi
        ;;
esac
exec @program@ "$@"
