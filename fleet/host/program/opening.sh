# --- opening a transaction -----------------------------------------------------------------------------

# Root what run $1 is about to push: system $2 and host program $3. A link may be there before its target: from now on the
# push is safe from the garbage collector.
root() {
    lock_opening
    ! is_given_up "$1" || refuse closed "run $1 was given up"
    find $roots -maxdepth 1 -name '*T*-*' ! -newermt 2020-01-01 -exec touch -h '{}' +   # made before the clock was set: how old is unknown
    read_line $open/run
    find $roots -maxdepth 1 -name '*T*-*' ! -name "$text-*" -mtime +6 -delete    # of runs that died
    set_root "$1-new" "$2" && set_root "$1-program" "$3"
}

# Give up run $1 before it begins: what it still has under way comes too late.
unroot() {
    mkdir -p "${given_up%/*}" && printf '%s\n' "$1" >>"$given_up"
    lock_opening
    [ "$(wc -l <"$given_up")" -le 2000 ] || { tail -n 1000 "$given_up" >"$given_up.new" && mv -f "$given_up.new" "$given_up"; }
    is_given_up "$1" || printf '%s\n' "$1" >>"$given_up"            # somebody else has just shortened it
    ! enter $open "$1" || refuse locked "run $1 is open"
    rm -f "$roots/$1-new" "$roots/$1-program" "$queue/$1"
    forget_staged "$1"
    sync_pushes "$1" </dev/null >/dev/null 2>&1 9>&- &          # nobody has to wait for the disk
}

is_given_up() { has_line $given_up "$1"; }

stage() { set_root staged "$2" && unroot "$1"; }

# Open the transaction of an order, which is read from stdin.
# sets: order new old begun
begin() {
    order=$(cat)                        # all of it, before anybody has to wait for us
    case $order in *"${newline}end") ;; *) refuse usage "the order was cut short" ;; esac
    recover
    lock_opening                        # to the end of this: one run begins once, however often it is told to
    write_draft
    read_line new
    new=$text old=${fallback:-$(running_system)}
    if begun_before; then
        rm -r $draft
    else
        check_order
        { snapshot && put_new admitted "$admitted" && put state "$first_state"; } || decline full "cannot write $draft, or PID 1 does not answer"
        ! is_given_up "$run" || decline closed "run $run was given up"  # `unroot` does not wait to say so
        ( ! enter_last || remember )    # what an older program or a full disk has kept from there
        { root_run && mv -T $draft $open; } || decline full "cannot write $roots or $open"
    fi
    begun=$run
    [ ! -e "$queue/$run" ] || rm -f "$queue/$run"
    enter $open
    ensure_keeper
    answer begun "$begun"
}

# Let no other process open a transaction, until this one ends.
lock_opening() {
    { [ -d "${open%/*}" ] && [ -d $record ] && [ -d $roots ]; } || mkdir -p "${open%/*}" $record $roots
    if ! { exec 9>/run/fleet/.opening && flock -w 30 9; }; then refuse broken "cannot lock /run/fleet/.opening: somebody opens a transaction or prunes generations here for half a minute already"; fi
}

# Succeed if this run is open, or was; `show` tells which.
# sets: folder
begun_before() {
    for folder in $open $closed $record/last; do
        read_line "$folder/run"
        [ "$text" != "$run" ] || return 0
    done
    return 1
}

# Refuse what may not be done beside the transaction that `find_open` has found.
refuse_open() {
    answer refused locked
    answer_open "$folder"
    exit 0
}

# Refuse the order, and leave nothing of its draft.
decline() { rm -rf $draft ${run:+"$roots/$run-old"}; refuse "$@"; }

# Refuse the order if anything speaks against it.
# sets: first_state limits limit bad part goal
check_order() {
    if find_open && { [ "$folder" = $open ] || [ ! -e guarded ]; }; then
        rm -r $draft
        refuse_open
    fi
    [ ! -d $record/open ] || decline full "cannot write $record, or /run/fleet"         # recover has tried
    require_turn
    is_store_path "$new" || decline usage "'$new' is no store path"
    read_line goal
    goal=$text limits="activation confirm"
    case $goal in
        switch | test) first_state=switching ;;
        boot) first_state=arming limits="$limits boot" ;;
        *) decline usage "no goal" ;;
    esac
    for limit in $limits; do
        read_line "$limit"
        is_count "$text" || decline usage "'$text' is no time limit $limit"
    done
    [ -e guarded ] || require_current
    find_earlier_marks
    [ -z "$earlier" ] || [ -e guarded ] ||
        decline stale "the host went down amid a push: part of it may be missing though Nix calls it valid"
    bad=$record/quarantine/${new##*/}
    [ ! -e "$bad" ] || [ -n "$(get retry)" ] || decline quarantined "$(cat "$bad")"
    bad=
    nix-store --check-validity "$new" 2>/dev/null || decline incomplete "$new is not complete in this host's store"
    [ ! -e $damaged ] || bad=$(damaged_parts_of "$new" | tr '\n' ' ')
    [ -z "$bad" ] || [ -e guarded ] ||
        decline unfit "a power cut has damaged what it needs, nix-store --repair-path on the host mends it: $bad"
    for part in $needed; do
        [ -e "$new/${part%%"|"*}" ] || [ -e "$new/${part##*"|"}" ] || decline unfit "$new has no $part"
    done
    [ $driver != nixos ] || [ -e $profile ] || [ "$goal" = test ] ||
        decline unfit "no system profile $profile: this host has nothing to boot again. Install NixOS to its disk"
    [ $first_state != arming ] || can_go_back_by_reboot || decline unfit "$why"
    [ $first_state != arming ] || [ -e force ] || require_idle
    [ ! -e secret ] || cmp -s secret "$staged/$run/secret" ||
        decline incomplete "the values of its secrets are not here: the host went down since they came, or they are of another plan"
    [ ! -e secret ] || { restore_secrets && rm -f returned; }           # of a `secrets put` that was cut short
}

# Refuse a reboot that would interrupt somebody. Planning has asked that too, maybe hours ago.
# sets: said
require_idle() {
    said=$(busy)
    [ -z "$said" ] || decline unfit "a reboot would interrupt $(printf '%s\n' "${said#busy=}" | sed 's/^busy=//' | head -n 20 | paste -s -d ';')"
}

# Write down all that going back needs, before anything changes.
# sets: login unit
snapshot() {
    case ${SUDO_USER-} in *[!0-9A-Za-z_.-]*) login= ;; *) login=${SUDO_USER-} ;; esac
    ways_in >ways &          # PID 1 is asked meanwhile
    find_systems
    read_boot
    mkfifo .bell && put_new login "$login" && put_new format $format && draw_serial && put_new old "$old" && put_new program "$program" &&
        put_new since "$(date +%s)" && put_new boot_id "$(boot_id)" &&
        put_new old_profile "$profiled" && put_new old_link "$(readlink $profile)" && put_new old_boot "$default" && put_new newest "$(newest_generation)" &&
        put_new path "$(system_bin)/nix/var/nix/profiles/default/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" &&
        put_deadline activation && failing_units && active_units >active &&
        while read -r unit _; do [ -z "$unit" ] || printf '%s\n' "$unit"; done >failing <<EOF && wait $! &&
$trouble
EOF
        { [ ! -e guarded ] || snapshot_guarded; }
}

# Correct that for a switch by somebody else, which has begun, and may have set the profile.
# sets: moved default
snapshot_guarded() {
    moved=$(get old_profile) default=$(get old_boot)
    if [ -z "$default" ] && [ "$moved" = "$new" ]; then default=$old; fi
    clock && put started "$now" && put moved "$moved" && put old_profile "${default:-$moved}" &&
        { [ -z "$fallback" ] || { put replaced "$(running_system)" &&
            cp $closed/old_profile $closed/old_boot $closed/failing $closed/active .; }; }
}

root_run() { set_root "$run-new" "$new" && set_root "$run-program" "$program" && set_root "$run-old" "$old"; }
