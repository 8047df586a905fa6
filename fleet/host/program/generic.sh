# --- generic: a profile and a script --------------------------------------------------------------------
#
# A system is a folder with bin/activate, or activate; with deactivate beside it, if it can be taken back; and with the units
# that it wants to be judged by in etc/systemd/system. The script is run when it is activated, and by a unit of ours at each
# boot: it must do no harm when it is run twice.

# sets: lasting needed
generic_facts() {
    lasting=yes needed='bin/activate|activate'
    place_profile "/nix/var/nix/profiles/fleet${site:+-profiles/}${site#-}"
    find_noted
}

# sets: units
generic_units() { units=$1/etc/systemd/system; }

generic_activate() {
    [ "$1" != $nothing ] || { generic_deactivate; return; }
    generic_find "$1" activate && bounded "$found"
}

generic_go_back() {
    generic_deactivate || [ "$1" != $nothing ] || return
    [ "$1" = $nothing ] || generic_activate "$1"
}

# Take back what NEW has done. Where it does not know how, this fails.
generic_deactivate() { generic_find "$new" deactivate && bounded "$found"; }

# Let $found be script $2 of system $1.
# sets: found
generic_find() { for found in "$1/bin/$2" "$1/$2"; do [ ! -x "$found" ] || return 0; done; return 1; }

# sets: unit
generic_commit() {
    unit=$attached/fleet-activate$site.service
    if [ "$1" = $nothing ]; then
        rm -f "$unit" "${unit%/*}/multi-user.target.wants/${unit##*/}"
    else
        generic_find "$1" activate && openly mkdir -p "${unit%/*}/multi-user.target.wants" &&
            generic_unit "$profile${found#"$1"}" | openly tee "${unit%/*}/.fleet-activate" >/dev/null &&
            sync "${unit%/*}/.fleet-activate" && mv -f "${unit%/*}/.fleet-activate" "$unit" &&
            ln -sfn "../${unit##*/}" "${unit%/*}/multi-user.target.wants/${unit##*/}" && sync -f "${unit%/*}" || return
    fi
    retry systemctl daemon-reload
}

# Print the unit that runs script $1 at each boot, and notes what is active then.
generic_unit() {
    cat <<EOF
[Unit]
Description=fleet: activates $profile
ConditionPathExists=$profile

[Service]
Type=oneshot
RemainAfterExit=yes
Environment=PATH=$(get path)
ExecStart=$1
ExecStartPost=/bin/sh -c 'readlink -f $profile >$record/.booted && mv -f $record/.booted $record/running'
EOF
}

# sets: default doubt
generic_verify() {
    generic_facts
    default=$profiled
    [ "$profiled" != $nothing ] || return 0
    if [ "$(systemctl show --property=WantedBy --value "fleet-activate$site.service")" != multi-user.target ]; then
        default='' doubt="no unit fleet-activate$site.service activates $profile at boot"
    fi
}
