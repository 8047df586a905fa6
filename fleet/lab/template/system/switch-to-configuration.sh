#!/bin/sh
# A lab closure's switch-to-configuration: the order, the words and the exit codes of the real one.
#
#   1 usage, not root, a refused check, the boot loader · 2 activation failed · 4 a unit failed
#   11 another switch has the lock · 100 the init interface differs
#
# /bin/sh of the host runs it, with a PATH of its own: a transient unit's PATH has no tools.
#
# Lists of units are words of one string: unit names have no blanks and no globs.
# shellcheck disable=SC2046,SC2086,SC2116
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 0022
toplevel=@toplevel@
current=/run/current-system
profiles=/nix/var/nix/profiles
boot=/boot/loader
grub=/boot/grub
start_list=/run/nixos/start-list
action=${1-}
status=0

say() { echo "$*" >&2; }
journal() { logger -t nixos -- "$*" 2>/dev/null || :; }
die() {
    say "$1"
    exit "${2-1}"
}

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

# --- the boot loader ---

# FILE TEXT: the file has the text, also after a power cut, and was never half written.
write_synced() {
    printf '%s\n' "$2" | cmp -s - "$1" && return 0
    printf '%s\n' "$2" >"$1.tmp" && sync "$1.tmp" && mv -f "$1.tmp" "$1"
}

generations() {
    for link in "$profiles"/system-*-link; do
        [ -L "$link" ] || continue
        number=${link##*/system-}
        echo "${number%-link}"
    done | sort -n
}

# FILE FOLDER SUFFIX: its copy on the boot partition, named after its store path as NixOS names it; where it stands there.
boot_file() {
    source=$(readlink -e "$1") || return 0 # a system made by hand may have none
    name=$2/$(echo "${source#/nix/store/}" | tr / -)$3
    if ! cmp -s "$source" "/boot/$name"; then
        mkdir -p "/boot/$2"
        cp "$source" "/boot/$name.tmp" && sync "/boot/$name.tmp" && mv -f "/boot/$name.tmp" "/boot/$name" || return 1
    fi
    echo "/$name"
}

install_boot_loader() {
    if [ -e "$toplevel/lab/boot-loader-script" ]; then
        sh -e "$toplevel/lab/boot-loader-script" "$toplevel" >&2
        return
    fi
    if [ -e "$grub" ]; then install_grub; else install_systemd_boot; fi
}

# As nixpkgs' systemd-boot builder did for years: an entry for each generation of the profile; for a closure in
# none of them no entry, and an untouched loader.conf. What no generation needs goes first: the partition is small.
install_systemd_boot() {
    mkdir -p "$boot/entries" || return 1
    for entry in "$boot"/entries/nixos-generation-*.conf; do
        number=${entry##*/nixos-generation-}
        [ -L "$profiles/system-${number%.conf}-link" ] || rm -f "$entry"
    done
    for file in /boot/EFI/nixos/*; do
        grep -qF "${file#/boot}" "$boot"/entries/*.conf 2>/dev/null || rm -f "$file"
    done
    mine=
    for number in $(generations); do
        closure=$(readlink -f "$profiles/system-$number-link")
        linux=$(boot_file "$closure/kernel" EFI/nixos .efi) && initrd=$(boot_file "$closure/initrd" EFI/nixos .efi) || return 1
        write_synced "$boot/entries/nixos-generation-$number.conf" "title NixOS
version Generation $number $(cat "$closure/nixos-version" 2>/dev/null)
linux $linux
initrd $initrd
options init=$closure/init $(cat "$closure/kernel-params" 2>/dev/null)" || return 1
        [ "$closure" != "$toplevel" ] || mine=$number
    done
    [ -z "$mine" ] || write_synced "$boot/loader.conf" "timeout 0
default nixos-generation-$mine.conf
console-mode keep" || return 1
    sync -f "$boot"
}

# As nixpkgs' GRUB builder: the closure is the first entry and the default, generations are in a submenu, and what
# grub-reboot has chosen boots once. Files that no entry needs go last.
install_grub() {
    uuid=$(blkid -s UUID -o value "$(findmnt -nro SOURCE -T /boot)")
    grub_menu >"$grub/grub.cfg.tmp" && sync "$grub/grub.cfg.tmp" && mv -f "$grub/grub.cfg.tmp" "$grub/grub.cfg" || return 1
    for file in /boot/kernels/*; do
        grep -qF "/kernels/${file##*/}" "$grub/grub.cfg" || rm -f "$file"
    done
    sync -f "$grub"
}

grub_menu() {
    cat <<MENU
# Made by switch-to-configuration of $toplevel

        search --set=drive1 --fs-uuid $uuid
        if [ -s \$prefix/grubenv ]; then
          load_env
        fi

        if [ "\${next_entry}" ]; then
          set default="\${next_entry}"
          set next_entry=
          save_env next_entry
          set timeout=1
          set boot_once=true
        else
          set default=0
          set timeout=0
        fi

MENU
    grub_entry "NixOS - Default" "$toplevel" --unrestricted || return 1
    echo 'submenu "NixOS - All configurations" --class submenu {'
    for number in $(generations | sort -rn); do
        closure=$(readlink -f "$profiles/system-$number-link")
        grub_entry "NixOS - Configuration $number" "$closure" || return 1
    done
    echo '}'
}

# TITLE CLOSURE OPTIONS
grub_entry() {
    linux=$(boot_file "$2/kernel" kernels '') && initrd=$(boot_file "$2/initrd" kernels '') || return 1
    cat <<ENTRY
menuentry "$1" --class nixos ${3-} {
search --set=drive1 --fs-uuid $uuid
  linux (\$drive1)/$linux init=$2/init $(cat "$2/kernel-params" 2>/dev/null)
  initrd (\$drive1)/$initrd
}

ENTRY
}

# --- which units differ ---

listed() { systemctl list-units --plain --no-legend --full "$@" | while read -r unit _; do echo "$unit"; done; }
commas() { sort -f | tr '\n' ' ' | sed 's/ $//; s/ /, /g'; }
tell() { [ -z "$2" ] || say "$1: $(printf '%s\n' $2 | commas)"; }
says() { grep -Eqi "^$2=$3" "$1"; }

# The file in a tree that defines the unit: its own, or its template's.
defining() {
    if [ -e "$1/$2" ]; then
        echo "$1/$2"
    else
        case $2 in *@*.*) [ ! -e "$1/${2%%@*}@.${2##*.}" ] || echo "$1/${2%%@*}@.${2##*.}" ;; esac
    fi
}

same() {
    cmp -s "$1" "$2" || return 1
    if [ -d "$1.d" ] || [ -d "$2.d" ]; then diff -r "$1.d" "$2.d" >/dev/null 2>&1; fi
}

# Sorts every active unit of either tree into what is to be done with it; no other unit is ever touched.
compare_units() {
    to_stop='' to_skip='' to_reload='' to_restart='' to_start=''
    for unit in $active_before; do
        was=$(defining "$old_units" "$unit")
        new=$(defining "$new_units" "$unit")
        [ -n "$was$new" ] || continue
        if [ -z "$new" ]; then
            says "$was" X-StopOnRemoval '(false|no|0)' || to_stop="$to_stop $unit"
        elif [ -z "$was" ] || ! same "$was" "$new"; then
            changed_unit
        fi
    done
}

changed_unit() {
    case $unit in *.target | *.slice | *.path) return ;; esac
    socket=${unit%.service}.socket
    if says "$new" X-ReloadIfChanged '(true|yes|1)'; then
        to_reload="$to_reload $unit"
    elif says "$new" '(X-RestartIfChanged)' '(false|no|0)' || says "$new" RefuseManualStop '(true|yes|1)'; then
        to_skip="$to_skip $unit"
    elif says "$new" X-StopIfChanged '(false|no|0)'; then
        to_restart="$to_restart $unit"
    elif [ "$socket" != "$unit" ] && [ -e "$new_units/$socket" ]; then
        to_stop="$to_stop $socket $unit"
        to_start="$to_start $socket"
    else
        to_stop="$to_stop $unit"
        to_start="$to_start $unit"
    fi
}

# Starting a target that is active starts what it newly wants.
targets() {
    for target in multi-user.target timers.target sockets.target "$new_units"/*.target.wants; do
        target=${target##*/}
        target=${target%.wants}
        case " $(echo $active_before) " in *" $target "*) echo "$target" ;; esac
    done | sort -u
}

# --- the switch ---

each() {
    verb=$1
    shift
    [ $# -gt 0 ] || return 0
    systemctl "$verb" -- "$@" && return 0
    status=4
    for unit; do
        ! systemctl is-failed -q -- "$unit" || say "Failed to $verb $unit"
    done
}

# PID 1 has had no job for a quarter of a second; a switch waits for that 90 s at most.
settle() {
    quiet=0 tries=0
    while [ "$quiet" -lt 2 ] && [ "$tries" -lt 360 ]; do
        if [ -z "$(systemctl list-jobs --no-legend)" ]; then quiet=$((quiet + 1)); else quiet=0; fi
        tries=$((tries + 1))
        [ "$quiet" -ge 2 ] || sleep 0.25
    done
}

# The bus by which the real one, unlike this one, talks to PID 1: it loses its connection with it.
bus() { pgrep -xo -u messagebus dbus-daemon; }

failed_units() {
    listed --state=failed
    for unit in $(listed --state=auto-restart,auto-restart-queued); do
        [ "$(systemctl show -P ExecMainStatus -- "$unit")" = 0 ] || echo "$unit"
    done
}

report() {
    fresh=$(for unit in $(listed --state=active); do
        case " $(echo $active_before $to_start $to_restart) " in *" $unit "*) continue ;; esac
        [ -z "$(defining "$new_units" "$unit")" ] || echo "$unit"
    done)
    tell "the following new units were started" "$fresh"
    failing=$(failed_units | sort -u)
    [ -n "$failing" ] || return 0
    tell "warning: the following units failed" "$failing"
        systemctl status --no-pager --full -- $failing >&2
    status=4
}

dry_activate() {
    tell "would stop the following units" "$to_stop"
    tell "would NOT stop the following changed units" "$to_skip"
    say "would activate the configuration..."
    "$toplevel/dry-activate" "$toplevel" >&2
    tell "would reload the following units" "$to_reload"
    tell "would restart the following units" "$to_restart"
    tell "would start the following units" "$to_start"
    exit 0
}

pid1_again() {
    if [ "$systemd_before" != "$(readlink -f "$toplevel/systemd")" ]; then
        say "restarting systemd..."
        systemctl daemon-reexec
        # It refuses calls until it is back.
        timeout 10 sh -c 'until systemctl list-jobs >/dev/null 2>&1; do sleep 0.1; done'
    fi
    systemctl reset-failed
    timeout 180 systemctl daemon-reload || die "Failed to reload daemon"
}

switch() {
    old_units=$(readlink -f "$current/etc/systemd/system")
    new_units=$(readlink -f "$toplevel/etc/systemd/system")
    systemd_before=$(readlink -f "$current/systemd")
    active_before=$(listed --state=active,activating,reloading)
    compare_units
    [ "$action" != dry-activate ] || dry_activate
    # What an interrupted switch had stopped is started by the next one.
    to_start=$(printf '%s\n' $to_start $(cat "$start_list" 2>/dev/null) | sort -u)
    printf '%s\n' $to_start $to_restart >"$start_list"
    journal "switching to system configuration $toplevel"
    tell "stopping the following units" "$to_stop"
    each stop $to_stop
    tell "NOT restarting the following changed units" "$to_skip"
    say "activating the configuration..."
    bus=$(bus)
    "$toplevel/activate" "$toplevel" >&2 || {
        say "Failed to run activate script"
        status=2
    }
    [ "$(bus)" = "$bus" ] || die "Failed to reset failed units"
    pid1_again
    to_start=$(for unit in $to_start; do [ -z "$(defining "$new_units" "$unit")" ] || echo "$unit"; done)
    tell "reloading the following units" "$to_reload"
    each reload $to_reload
    tell "restarting the following units" "$to_restart"
    each restart $to_restart
    tell "starting the following units" "$to_start"
    each start $to_start $(targets)
    settle
    rm -f "$start_list"
    report
}

# What a host file wants done before anything is stopped, with the lock held.
switch_script() {
    case $action in switch | test) ;; *) return 0 ;; esac
    [ ! -e "$toplevel/lab/switch-script" ] || sh -e "$toplevel/lab/switch-script" "$action" >&2
}

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
