# --- before anything changes ---

inhibitors() {
    # `key=value` lines of a flat JSON object of strings.
    tr '{},' '[\n*]' <"$1/switch-inhibitors" 2>/dev/null |
        sed -n 's/^ *"\([^"]*\)" *: *"\([^"]*\)" *$/\1=\2/p'
}

uninhibited() {
    refused=$(inhibitors "$toplevel" | while IFS='=' read -r key new; do
        old=$(inhibitors "$current" | sed -n "s/^$key=//p")
        [ -z "$old" ] || [ "$old" = "$new" ] || echo "$key : $old -> $new"
    done)
    [ -n "$refused" ] || return 0
    say "There are changes to critical components of the system:"
    say "$refused"
    say "You probably want to run 'nixos-rebuild boot' and reboot your system instead."
    return 1
}

# In the order of their names, with NixOS's own among them, until one fails. A command in one of them that fails ends nothing:
# what counts is the last one.
pre_switch_checks() {
    for check in $({ ls "$toplevel/lab/pre-switch-checks"; echo switchInhibitors; } 2>/dev/null | LC_ALL=C sort); do
        case $check:$action in
            switchInhibitors:boot | switchInhibitors:dry-activate) ;;
            switchInhibitors:*) uninhibited ;;
            *) bash -u -o pipefail "$toplevel/lab/pre-switch-checks/$check" "$toplevel" "$action" >&2 ;;
        esac || {
            say "Pre-switch check '$check' failed"
            return 1
        }
    done
}
