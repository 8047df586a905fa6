# --- secrets ---------------------------------------------------------------------------------------------
#
# A value comes by stdin, before the run begins, and is only ever in a file: staged in memory, then in its place. No value is an
# argument, in an environment, in the record or in the journal: `read` and `printf` are words of the shell itself, and no
# here-document has one, since some shells make a file of that.
#
# A secret is a line: name path owner group mode storage when readers, which are units. Such lines are in `secret` of a transaction, in that of
# what is staged, and in $record/secrets, which has what this host should have.
#
# To change one, the old file gets a second name beside it, .NAME.fleet-old, and the new one is renamed into its place. Where
# there was none, the empty .NAME.fleet-none says so. So the way back is one rename that brings the very file, whoever has died
# in between. A power cut takes what is in memory, old and new alike: then nobody has it but the controller, which fills it
# again. What is on the disk the keeper puts back as after any other fault.

secrets=/run/fleet-secrets              # a file system in memory that is never swapped; only root may list it
staged=$secrets/.staged                 # what has come for a run, until the run ends

# Let there be a file system in memory for secrets: one that is never swapped, where that can be had.
have_memory() {
    openly mkdir -p $secrets || return
    mountpoint -q $secrets || mount -t ramfs -o nosuid,nodev,noexec,mode=0751 fleet-secrets $secrets 2>/dev/null ||
        is_in_memory $secrets || return
    chmod 751 $secrets && mkdir -p $staged
}

is_in_memory() { case $(stat -f -c %T "$1") in tmpfs | ramfs) ;; *) false ;; esac; }
forget_staged() { [ ! -d "$staged/$1" ] || rm -rf "${staged:?}/$1"; }

# Let the words of line $1 be in variables, with the beginning of the names beside its place.
# sets: name path owner group mode storage when readers folder aside value
read_secret() {
    read -r name path owner group mode storage when readers <<EOF
$1
EOF
    [ "$readers" != - ] || readers=
    folder=${path%/*} aside=${path%/*}/.${path##*/}.fleet value=$staged/${run-}/values/$name
}

# Succeed if root alone decides what is at the place of the secret, which is a file or nothing; else $why says what is wrong.
# sets: why place rest places
is_safe() {
    places=/ place='' rest=${path#/}
    while [ "$rest" != "${rest#*/}" ]; do place=$place/${rest%%/*} rest=${rest#*/} places="$places $place"; done
    # shellcheck disable=SC2086  # paths have no spaces
    place=$(find $places -maxdepth 0 '(' ! -type d -o ! -uid 0 -o -perm /022 ')' 2>/dev/null | head -n 1)
    why="secret $name: $place is a link, or somebody else than root may write there: whoever may would decide what $path is"
    [ -z "$place" ] || return
    why="secret $name: there is something at $path that is no file"
    [ ! -L "$path" ] && { [ ! -e "$path" ] || [ -f "$path" ]; } || return
    for place in $places; do [ ! -d "$place" ] || rest=$place; done
    why="secret $name: $path would be on the disk, and storage = \"tmpfs\" is for places in memory"
    if is_in_memory "$rest"; then [ "$storage" != tmpfs ] || return 0; else [ "$storage" != disk ] || return 0; fi
    [ "$storage" = tmpfs ] || why="secret $name: $path is in memory, and storage = \"disk\" is for what outlives a reboot"
    return 1
}

# Let $differs say whether the secret that has come differs from what is in its place. Fail where it cannot be written there,
# with the reason in $why.
# sets: why differs found
compare_secret() {
    is_safe || return
    why="secret $name: there is no user $owner or no group $group, or its value is gone; when = \"after\" waits for users that \
the new system brings"
    { chown "$owner:$group" "$value" && chmod "$mode" "$value"; } 2>/dev/null || return
    differs=yes
    [ -f "$path" ] && cmp -s "$value" "$path" || return 0
    found=$(stat -c %u:%g:%a "$value" "$path")
    [ "${found%"$newline"*}" != "${found#*"$newline"}" ] || differs=
}

# Write the secrets that are due, `before` or `after` the activation, into their places. Before a `boot` those on the disk
# are: the others are filled when it is over.
# sets: line why
write_secrets() {
    [ -e secret ] || return 0
    while IFS= read -r line; do
        read_secret "$line"
        case $1:$storage in "$when":* | boot:*) ;; *) continue ;; esac
        compare_secret || return
        [ -n "$differs" ] || continue
        why="cannot write $record"
        [ -e changed ] || put_durably changed "$(secrets_there)" || return
        [ "$1:$storage" = boot:tmpfs ] || write_secret || return
    done <secret
}

# Print a line for each secret that is in its place: an activation may remove it, and the old file beside it.
# sets: line
secrets_there() {
    while IFS= read -r line; do
        read_secret "$line"
        [ ! -f "$path" ] || echo "had $name"
    done <secret
}

# Write the secret into its place, so that restore_secrets brings back what was there.
# sets: why
write_secret() {
    why="secret $name: cannot write $path"
    openly mkdir -p "$folder" || return
    if ! is_aside; then
        if [ -e "$path" ]; then ln "$path" "$aside-old"; else true >"$aside-none"; fi || return
        sync_secret || return
    fi
    note_units >>due                    # a keeper may die after the rename, and somebody may start a unit before it
    rm -f "$aside-new"
    cp -p "$value" "$aside-new" && sync_secret && mv -fT "$aside-new" "$path" && note_units >>due && sync_secret
}

sync_secret() { [ "$storage" = tmpfs ] || sync -f "$folder"; }
is_aside() { [ -e "$aside-old" ] || [ -e "$aside-none" ]; }
# Succeed if what is in the place of the secret is not what was there. One file by two names is not renamed, and no reader saw another.
# shellcheck disable=SC3013  # POSIX since 2024
is_exchanged() { if [ -e "$aside-old" ]; then ! [ "$aside-old" -ef "$path" ]; else [ -e "$path" ] || [ -L "$path" ]; fi; }
# Succeed if the secret was there at begin and nothing is now, as where its folder was removed. What is in memory goes with a reboot.
is_gone() { [ ! -f "$path" ] && { [ "$storage" = disk ] || [ ! -e rebooted ]; } && has_line changed "had $name"; }

# Put back what was in the places of the secrets. Where nothing was changed this does nothing.
# sets: line
restore_secrets() {
    [ -e secret ] || return 0
    while IFS= read -r line; do
        read_secret "$line"
        is_aside || continue
        rm -f "$aside-new"
        if ! is_exchanged; then sync_secret; rm -f "$aside-old" "$aside-none"; continue; fi
        note_units >>returned
        if [ -e "$aside-old" ]; then mv -fT "$aside-old" "$path"; else rm -f "$path" && sync_secret && rm -f "$aside-none"; fi
        # shellcheck disable=SC2086  # a list
        note_units >>returned || [ -z "$readers" ] || with_timeout 90 systemctl try-restart -- $readers     # a full /run
        sync_secret
    done <secret
}

# Close that way back.
# sets: line
forget_old_secrets() {
    [ -e secret ] || return 0
    while IFS= read -r line; do
        read_secret "$line"
        rm -f "$aside-old" "$aside-none" "$aside-new"
    done <secret
}

# Print the first secret that is not what it was.
# sets: line
lost_secret() {
    [ -e secret ] || return 0
    while IFS= read -r line; do
        read_secret "$line"
        if is_aside || is_gone; then echo "the secret $name is not what it was at begin"; return; fi
    done <secret
}

# Print the units of the secret, each with the start of it that there was last.
# sets: unit
note_units() { for unit in $readers; do printf '%s %s\n' "$unit" "$(start_of "$unit")"; done; }
start_of() { systemctl show --property=InvocationID --value -- "$1"; }

# Start those units of file $1 anew that run, or have failed, and that nothing has started since they were noted.
# sets: unit start
restart_noted() {
    [ -s "$1" ] || return 0
    start=$(sort -u "$1")
    set --
    while read -r unit start; do
        [ "$(start_of "$unit")" = "$start" ] || continue
        case $(systemctl is-active "$unit" 2>/dev/null) in
            active | activating | reloading | failed) case " $* " in *" $unit "*) ;; *) set -- "$@" "$unit" ;; esac ;;
        esac
    done <<EOF
$start
EOF
    [ $# -gt 0 ] || return 0
    systemctl reset-failed -- "$@" 2>/dev/null
    with_timeout 90 systemctl restart -- "$@"
}

# Print the units of file $1 that are not there.
unknown_units() {
    [ -s "$1" ] || return 0
    cut -d ' ' -f 1 "$1" | sort -u | while read -r unit; do
        [ "$(systemctl show --property=LoadState --value -- "$unit")" != not-found ] || echo "$unit"
    done
}

# Answer which secrets of list $1 are not there. Those in memory go with each reboot.
# sets: line
answer_missing() {
    [ -e "$1" ] || return 0
    while IFS= read -r line; do
        read_secret "$line"
        [ "$storage" = disk ] || [ -e "$path" ] || answer secret_missing "$name"
    done <"$1"
}

# Succeed if a secret of the transaction that we are in is not there.
lacks_secrets() { [ -e secret ] && [ -n "$(answer_missing secret)" ]; }

# Print the units that cannot run after a reboot, until the secrets that this host should have are filled again.
# sets: line
units_without_secrets() {
    [ -e rebooted ] && [ -e $record/secrets ] || return 0
    while IFS= read -r line; do
        read_secret "$line"
        # shellcheck disable=SC2086  # a list
        [ -z "$readers" ] || [ "$storage" = disk ] || [ -e "$path" ] || printf '%s\n' $readers
    done <$record/secrets
}

# Remember on the disk which secrets this host should have, and remove those that nobody names any more.
# sets: line named
remember_secrets() {
    [ -e secret ] || return 0
    named=$(cut -d ' ' -f 2 secret)
    [ ! -e $record/secrets ] || while IFS= read -r line; do
        read_secret "$line"
        case $newline$named$newline in *"$newline$path$newline"*) continue ;; esac
        ! is_safe || rm -f "$path" "$aside-old" "$aside-none" "$aside-new"
    done <$record/secrets
    { cp secret $record/.secrets && sync $record/.secrets && mv -f $record/.secrets $record/secrets; } || rm -f $record/.secrets
}
