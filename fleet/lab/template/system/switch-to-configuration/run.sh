# --- what was asked ---

case $action in
    check | switch | boot | test | dry-activate) ;;
    # What wrapper.sh has NixOS's own program call.
    install-boot-loader)
        install_boot_loader
        exit
        ;;
    pre-switch-check)
        action=$3
        pre_switch_checks && switch_script
        exit
        ;;
    switch-script)
        action=$3
        switch_script
        exit
        ;;
    *) die "Usage: switch-to-configuration [check|switch|boot|test|dry-activate]" ;;
esac
[ "$(id -u)" = 0 ] || die "switch-to-configuration must be run as the root user"
[ -e /etc/NIXOS ] || die "This is not a NixOS installation!"
NIXOS_ACTION=$action
export NIXOS_ACTION
mkdir -p /run/nixos
if [ -z "${lab_locked-}" ]; then
    # The process that took the lock lives as long as it is held, as in the real one: /proc/locks names it.
    lab_locked=yes flock --nonblock --conflict-exit-code 11 /run/nixos/switch-to-configuration.lock "$0" "$@"
    status=$?
    [ $status -ne 11 ] || say "Could not acquire lock"
    exit $status
fi
[ "${NIXOS_NO_CHECK-}" = 1 ] || pre_switch_checks || die "Pre-switch checks failed"
[ "$action" != check ] || exit 0
case $action in
    switch | boot)
        install_boot_loader || die "Failed to install bootloader"
        [ "${NIXOS_NO_SYNC-}" = 1 ] || sync -f /nix/store
        [ "$action" != boot ] || exit 0
        ;;
esac
if ! cmp -s "$current/init-interface-version" "$toplevel/init-interface-version"; then
    say "Warning: the new NixOS configuration has an 'init' that is incompatible with the"
    say "current configuration.  The new configuration will take effect"
    die "when you reboot your system." 100
fi
switch_script || exit 1
switch
if [ -e "$toplevel/lab/switch-exit" ]; then read -r status <"$toplevel/lab/switch-exit" || :; fi
if [ "$status" = 0 ]; then
    journal "finished switching to system configuration $toplevel"
else
    journal "switching to system configuration $toplevel failed (status $status)"
fi
exit "$status"
