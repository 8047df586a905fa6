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

pre_switch_checks() {
    failed=0
    for check in "$toplevel"/lab/pre-switch-checks/*; do
        [ -e "$check" ] || continue
        sh -e "$check" "$toplevel" "$action" >&2 || {
            say "Pre-switch check '${check##*/}' failed"
            failed=1
        }
    done
    case $action in
        boot | dry-activate) ;;
        *) uninhibited || failed=1 ;;
    esac
    return "$failed"
}
