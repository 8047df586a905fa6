# --- garbage: generations and store paths that no rollback needs ---------------------------------------
#
# One rule, for `fleet gc` and for services.fleet.gc. The newest generations stay, and those of every system that somebody may
# need again: what runs, what was booted, what boots next, what the profile names, and what has a root of ours. No system goes
# while the boot menu names it: generations go first, then the menu is written, then Nix collects.
#
# Nothing of that begins during a deployment, and a collection that has begun gives way to one. All that is interrupted here may
# be done again: that the menu is still to be written is on the disk, and Nix takes one path after another.

menu_due=$record/menu-due               # generations went, and the boot menu may name them still
menu_log=/run/fleet/.menu-log           # what was said to that
collecting=/run/fleet/.collecting       # the lock of whoever collects

# Tell what `prune` and `collect` free where the newest $1 generations stay, and why each generation stays that does.
# sets: number path why
garbage() {
    require_undisturbed
    sort_generations "$1"
    answer keep "$1"
    [ -z "$held" ] || answer held "$held"
    while read -r number path why; do [ -z "$number" ] || answer stays "$number $path $why"; done <<EOF
$stay
EOF
    while read -r number path; do [ -z "$number" ] || answer goes "$number $path"; done <<EOF
$go
EOF
    answer nix_free "$(free_space /nix/store)"
    make_folder
    { find_dead && weigh_dead; } || refuse broken "nix-store does not tell what is garbage: $(tail -n 3 said | tr '\n' ' ')"
}

# Refuse while somebody deploys to this host, or pushes to it, and say who.
require_undisturbed() {
    ! find_open || refuse_open
    find_pusher
    [ -z "$pusher" ] || refuse locked "run $pusher is pushing to this host"
}

# Let $pusher be a run that brings store paths, for the host or for a profile on it: one that holds its mark, or has just said
# what it is about to bring, which is not there yet; empty where there is none.
# sets: pusher mark
find_pusher() {
    pusher=$(find $roots -maxdepth 2 -name '*T*-new' -mmin -10 -xtype l -printf '%f\n' 2>/dev/null | head -n 1)
    pusher=${pusher%-new}
    find_marks
    # shellcheck disable=SC2094  # it is only locked
    for mark in $marks; do { flock -n 8 || pusher=${mark##*/}; } 8<"$mark"; done 2>/dev/null
}

# Let $stay be the generations that stay, the newest first, a line `NUMBER PATH WHY,WHY` for each, and $go those that go. Where
# none may go, $held says why. The newest $1 stay in any case.
# sets: default stay go place number path why wanted word
sort_generations() {
    find_systems
    read_boot
    # Where the boot loader names another system than the profile, that counts: somebody may have chosen it since.
    if [ -L $roots/boots ] && [ "${default:-$profiled}" = "$profiled" ]; then default=$(readlink $roots/boots); fi
    stay='' go='' place=0
    find_held
    set -- "$1" "$(needed_systems)"
    while read -r number path; do
        [ -n "$number" ] || continue
        place=$((place + 1)) why=
        [ "$place" -gt "$1" ] || why=newest
        while read -r wanted word; do [ "$wanted" != "$path" ] || why="${why:+$why,}$word"; done <<END
$2
END
        [ -z "$held" ] || why=${why:-held}
        if [ -n "$why" ]; then stay="$stay$number $path $why$newline"; else go="$go$number $path$newline"; fi
    done <<EOF
$(numbered_generations)
EOF
}

# Let $held say why no generation may go; empty where some may. The menu is written by the profile's system, which makes
# itself the boot default.
# sets: held
find_held() {
    held=
    [ $driver = nixos ] || held="only generations of NixOS are pruned"
    [ -e $profile ] || held="there is no system profile"
    [ "${default:-$profiled}" = "$profiled" ] ||
        held="this host boots $default next, and its profile is $profiled: deploy or roll back first"
    ! ( enter_last && ! state_is_not stuck ) ||
        held="its last deployment ended stuck: a person has to look first, and then deploy"
}

# Print the systems that must stay, each with a word that says why.
# sets: link
needed_systems() {
    printf '%s\n' "$running running" "$(readlink -f $booted) booted" "$profiled profile" "${default:--} boots_next"
    set +f
    for link in "$roots"/*; do
        [ ! -L "$link" ] || case ${link##*/} in
            live) echo "$(readlink "$link") proven" ;;
            previous | staged) echo "$(readlink "$link") ${link##*/}" ;;
            boots) ;;                   # it is $default
            *) echo "$(readlink "$link") pending" ;;
        esac
    done
    set -f
}

# Print all generations, the newest first: NUMBER PATH.
numbered_generations() {
    generation_numbers | sort -rn | while read -r number; do echo "$number $(readlink -f "$profile-$number-link")"; done
}

# In a folder of our own, whose files have ./ before their names, write `dead`: a line for each path that nothing needs any
# more where the generations $go are gone. What Nix says to that is in `said`.
find_dead() {
    with_timeout 240 nix-store --gc --print-dead >./listed 2>./said && store_paths <./listed >./dead || return
    forgotten_models >./forgotten
    [ -n "$go" ] || [ -s ./forgotten ] || return 0
    with_timeout 240 nix-store --gc --print-roots >./roots 2>./said || return
    { printf %s "$go" | sed "s,^\([0-9]*\) .*,$profile-\1-link -> ,"; sed 's/ .*/ -> /' forgotten; } >./links
    { printf %s "$go" && cat ./forgotten; } | cut -d ' ' -f 2 >./tops && closure_of tops >./held || return
    grep -vF -f links roots | sed 's/.* -> //' | store_paths >./tops && closure_of tops >./needed || return
    comm -23 held needed >./freed && sort -u dead freed >./all && mv all dead
}

# Pass on the lines that are store paths, in order, once each.
store_paths() { grep -xE '/nix/store/[0-9a-z]{32}-[0-9A-Za-z+._?=-]+' | sort -u; }

# Print what the valid paths in file $1 need, in order.
closure_of() {
    xargs -r nix-store --check-validity --print-invalid <"$1" 2>./said | sort -u >./invalid
    sort -u "$1" | comm -23 - invalid >./valid
    xargs -r nix-store --query --requisites <./valid 2>./said >./closure && sort -u closure
}

# Tell how many paths are dead, how many bytes they have, and which are the largest. What Nix does not know, as what it was
# interrupted in, is measured.
# sets: total count size path
weigh_dead() {
    xargs -r nix-store --check-validity --print-invalid <./dead 2>./said | sort -u >./invalid
    comm -23 dead invalid >./valid
    xargs -r nix-store --query --size <./valid >./sizes 2>./said || return
    { paste -d ' ' sizes valid && xargs -r du -s -B1 --apparent-size <./invalid 2>/dev/null | tr '\t' ' '; } | sort -rn >./weighed
    total=0 count=0
    while read -r size path; do total=$((total + size)) count=$((count + 1)); done <./weighed
    answer paths "$count"
    answer bytes "$total"
    head -n 20 weighed | while read -r size path; do answer path "$size $path"; done
}

# Delete the generations that go where the newest $1 stay, of those with the numbers in $2 (1,2,3; all where it is empty), and
# write the boot menu. Whoever asked may be gone meanwhile.
# sets: doomed number path
prune() {
    trap '' HUP PIPE
    lock_opening
    require_undisturbed
    sort_generations "$1"
    doomed=
    while read -r number path; do
        case ,${2:-$number}, in *,"${number:-none}",*) doomed="$doomed $number" ;; esac
    done <<EOF
$go
EOF
    # A disk that is too full for that is collected first, and generations go the next time.
    [ -z "$doomed" ] || { true >$menu_due && sync $menu_due; } 2>/dev/null || doomed=
    if [ -n "$doomed" ]; then
        # shellcheck disable=SC2086  # a list
        nix-env --profile $profile --delete-generations $doomed >$menu_log 2>&1 ||
            refuse broken "nix-env does not delete generations: $(tail -n 3 $menu_log | tr '\n' ' ')"
    fi
    [ -n "$held" ] || write_menu
    [ -n "$held" ] || forgotten_models | while read -r link path; do rm -f "$link"; done
    for number in $doomed; do answer deleted "$number"; done
}

# Write the boot menu without the generations that went. Checks before a switch have no say in that: nothing is switched.
write_menu() {
    [ -e $menu_due ] || return 0
    NIXOS_NO_CHECK=1 with_timeout 300 $profile/bin/switch-to-configuration boot >$menu_log 2>&1 </dev/null ||
        refuse broken "the boot menu cannot be written, and nothing is collected before it is: $(tail -n 3 $menu_log | tr '\n' ' ')"
    rm $menu_due
}

# Let Nix collect garbage for at most $1 seconds, unless somebody deploys, and tell what went. How far it is, is on stderr.
collect() {
    require_undisturbed
    [ ! -e $menu_due ] || refuse broken "the boot menu still names systems that would go: $menu_due"
    mkdir -p /run/fleet && exec 7>$collecting
    flock -n 7 || refuse locked "garbage is collected here already"
    run_collector "$1" | tell_collected
}

# Print what Nix says while it collects, and at last `ended STATUS WHY`: why it was ended early, if it was.
# sets: limit collector watcher status
run_collector() {
    clock
    limit=$((now + $1))
    rm -f $collecting.why
    nix-store --gc 2>&1 </dev/null &
    collector=$!
    { while sleep 1 && kill -0 $collector; do watch_collector; done; } 7>&- >/dev/null 2>&1 &
    watcher=$!
    wait $collector
    status=$?
    kill $watcher 2>/dev/null
    printf '\nended %s %s\n' "$status" "$(get $collecting.why)"
}

# End the collector where its time is over, or somebody deploys.
watch_collector() {
    clock
    find_pusher
    if [ "$now" -ge "$limit" ]; then echo time >$collecting.why
    elif find_open; then echo deployment >$collecting.why
    elif [ -n "$pusher" ]; then echo push >$collecting.why
    else return
    fi
    kill "$collector"
}

# Tell what the collector says, in few words.
# sets: count line freed trouble
tell_collected() {
    count=0 freed='' trouble=
    while IFS= read -r line; do
        case $line in
            "deleting '/nix/store/"*) count=$((count + 1)); [ $((count % 50)) -ne 0 ] || echo "collected $count" >&2 ;;
            *' freed') freed=${line##*, } freed=${freed% freed} ;;
            error:*) trouble=$line ;;
            'ended '*) tell_end "${line#ended }" ;;
        esac
    done
}

# Tell how the collector ended: with status and reason $1.
tell_end() {
    case $1 in
        *' '?*) answer stopped "${1#* }" ;;
        '0 ') ;;
        *) refuse broken "nix-store does not collect: ${trouble:-exit status $1}" ;;
    esac
    answer collected "$count"
    answer freed "$freed"
}

# Do all of that for services.fleet.gc: the newest $1 generations stay, and nothing goes while $2 GiB are free, if it is not 0.
# sets: said
gc() {
    recover
    if [ "$2" -gt 0 ] && [ $(($(free_space /nix/store) >> 30)) -ge "$2" ]; then
        echo "$2 GiB are free, which is enough"
        return
    fi
    sort_generations "$1"
    printf '%s' "$stay" | sed 's/^\([0-9]*\) [^ ]* /keeps generation \1: /'
    for said in "prune $1" "collect 86400"; do
        # shellcheck disable=SC2086  # words
        said=$($said 2>/dev/null)
        printf '%s\n' "$said"
        case $said in *refused=locked*) return ;; *refused=*) return 1 ;; esac
    done
}
