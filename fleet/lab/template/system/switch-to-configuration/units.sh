# --- which units differ ---

listed() { systemctl list-units --plain --no-legend --full "$@" | while read -r unit _; do echo "$unit"; done; }
commas() { sort -f | tr '\n' ' ' | sed 's/ $//; s/ /, /g'; }
tell() { [ -z "$2" ] || say "$1: $(printf '%s\n' $2 | commas)"; }
says() { grep -Eqi "^$2=$3" "$1"; }

# $defined is the file in a tree that defines the unit: its own, or its template's. There are many units: nothing forks.
defines() {
    defined=$1/$2
    [ ! -e "$defined" ] || return 0
    case $2 in *@*.*) defined=$1/${2%%@*}@.${2##*.} ;; esac
    [ -e "$defined" ] || { defined='' && false; }
}

same() {
    cmp -s "$1" "$2" || return 1
    if [ -d "$1.d" ] || [ -d "$2.d" ]; then diff -r "$1.d" "$2.d" >/dev/null 2>&1; fi
}

# Sorts every active unit of either tree into what is to be done with it; no other unit is ever touched.
compare_units() {
    to_stop='' to_skip='' to_reload='' to_restart='' to_start=''
    for unit in $active_before; do
        defines "$old_units" "$unit"
        was=$defined
        defines "$new_units" "$unit"
        new=$defined
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
    active=" $(echo $active_before) "
    for target in multi-user.target timers.target sockets.target "$new_units"/*.target.wants; do
        target=${target##*/}
        target=${target%.wants}
        case $active in *" $target "*) echo "$target" ;; esac
    done | sort -u
}
