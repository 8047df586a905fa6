# --- what a controller asks about secrets -----------------------------------------------------------------

# Do what a controller asks about the secrets on stdin, for run $2. $3 is the number of the one who proves that.
secrets() {
    [ -z "$site" ] || refuse usage "a profile has no secrets: they are its host's"
    case $1 in
        stage) lock_opening; receive_secrets "$2"; answer_staged ;;
        put) recover; lock_opening; put_secrets "$2" ;;
        fill) recover; lock_opening; fill_secrets "$2" "${3-}" ;;
        compare) compare_secrets ;;
        *) refuse usage "no command secrets $1" ;;
    esac
}

# Take the secrets on stdin for run $1, and be in the folder that has them.
# sets: run line name word
receive_secrets() {
    ! is_given_up "$1" || refuse closed "run $1 was given up"
    have_memory || refuse unfit "there is no file system in memory at $secrets, and none can be mounted there"
    run=$1 name='' word=''
    find $staged -mindepth 1 -maxdepth 1 -mmin +60 ! -name "$(get $open/run)" -exec rm -rf '{}' +    # of runs that died
    forget_staged "$run"
    { mkdir -p "$staged/$run/values" && cd "$staged/$run" && true >secret; } || refuse full "cannot write $staged"
    while IFS= read -r line; do
        word=${line%% *} line=${line#* }
        case $word in
            secret) is_secret "$line" && printf '%s\n' "$line" >>secret ;;
            value) [ -n "$name" ] && printf '%s' "$line" | base64 -d >"values/$name" ;;
            end) break ;;
            *) false ;;
        esac || { forget_staged "$run"; refuse usage "this program does not take the secret '$name'"; }
    done
    [ "$word" = end ] || { forget_staged "$run"; refuse usage "the secrets were cut short"; }
}

# Succeed if line $1 is a secret as a controller writes it. What it names we write as root, so nothing else will do.
is_secret() {
    read_secret "$1"
    case $name in '' | [!0-9A-Za-z]* | *[!0-9A-Za-z._-]*) return 1 ;; esac
    case $path in [!/]* | *[!0-9A-Za-z@%+=:,._/-]* | *//* | */./* | */../* | */. | */.. | */) return 1 ;; esac
    case $path in *.fleet-old | *.fleet-new | *.fleet-none) return 1 ;; esac
    case $path in /nix/store/* | $record/* | /run/fleet/* | $secrets/.* | /proc/* | /sys/* | /dev/*) return 1 ;; esac
    case $owner:$group in -* | *:-* | :* | *: | *[!0-9A-Za-z_.:-]*) return 1 ;; esac
    case $mode:$storage in [4-7][0-7]0:tmpfs | [4-7]00:disk) ;; *) return 1 ;; esac
    case $when in before | after) ;; *) return 1 ;; esac
    case " $readers" in *' -'* | *[!0-9A-Za-z:._@\\\ -]*) return 1 ;; esac
}

# Say of each secret that has come whether it differs. Those that wait for the new system's users do, and those that were written
# and whose units may not have been started anew since whoever wrote them died: the old file is still beside them.
# sets: line differs
answer_staged() {
    while IFS= read -r line; do
        read_secret "$line"
        if ! compare_secret; then
            case $why:$when in *'no user'*:after) differs=yes ;; *) forget_staged "$run"; refuse unfit "$why" ;; esac
        fi
        ! is_aside || differs=yes
        answer compared "$name ${differs:-no}"
    done <secret
}

# Let this host have the secrets on stdin, and no others that it had before, though no transaction is open. Where a unit does not
# start with the new ones, all are as they were. Whoever asked may be gone meanwhile.
put_secrets() {
    trap '' HUP PIPE
    ! find_open || refuse_open
    receive_secrets "$1"
    restore_secrets                     # of an earlier one that was cut short
    rm -f returned
    if write_all && start_with_secrets; then
        forget_old_secrets
        remember_secrets
        end_secrets
    else
        restore_secrets
        restart_noted returned
        forget_staged "$run"
        refuse unfit "${trouble:-$why}"
    fi
}

# Fill the secrets on stdin that a reboot has taken: where no transaction is open, or in that of run $1, whose new system has
# booted on trial and which the one with number $2 proves. Units that do not start with them are the proof's to find. One that
# cannot be written keeps none of the others away. Whoever asked may be gone meanwhile.
fill_secrets() {
    trap '' HUP PIPE
    if find_open; then
        { enter $open "$1" && ! state_is_not switched && [ -e rebooting ] && ! is_displaced "${2-}"; } || refuse_open
    fi
    receive_secrets "$1"
    restore_secrets                     # of an earlier one that was cut short: its units are due again
    rm -f returned
    write_all
    restart_noted due
    forget_old_secrets
    [ -z "$trouble" ] || { forget_staged "$run"; refuse unfit "$trouble"; }
    end_secrets
}

# Tell which units are not there, and leave nothing of what has come.
end_secrets() {
    unknown_units due | while read -r unit; do answer unknown_unit "$unit"; done
    forget_staged "$run"
}

# Write all secrets that differ, and tell which those are. Fail with the reason in $trouble if one cannot be written.
# sets: line trouble
write_all() {
    trouble=
    while IFS= read -r line; do
        read_secret "$line"
        if compare_secret && { [ -z "$differs" ] || write_secret; }; then
            answer compared "$name ${differs:-no}" || :     # whoever asked may be gone meanwhile
        else
            trouble=${trouble:-$why}
        fi
    done <secret
    [ -z "$trouble" ]
}

# Start the units anew that read what was changed. They have a second to fail.
# sets: why
start_with_secrets() {
    why="a unit does not start with the new secrets, so the old ones are back: $(cut -d ' ' -f 1 due 2>/dev/null | sort -u | paste -sd ' ')"
    [ -s due ] || return 0
    restart_noted due || return
    sleep 1
    # shellcheck disable=SC2046  # a list
    ! systemctl -q is-failed $(cut -d ' ' -f 1 due)
}

# Say what is in the places of the secrets on stdin: a digest with the key on stdin, which nobody else knows. So what one host
# says tells nothing of a value to whoever hears it, and cannot be compared with what another says.
# sets: line word key
compare_secrets() {
    key='' word=''
    while IFS= read -r line; do
        word=${line%% *} line=${line#* }
        case $word in
            key) key=$line ;;
            secret) is_secret "$line" || refuse usage "this program does not take the secret '$name'"; answer secret "$name $(state_of_secret)" ;;
            *) break ;;
        esac
    done
    [ "$word" = end ] || refuse usage "the secrets were cut short"
    [ ! -e $record/secrets ] || while IFS= read -r line; do read_secret "$line"; answer known "$name $path"; done <$record/secrets
}

# Print what is in the place of the secret: nothing, something that is not ours, what was not ended, or a file.
state_of_secret() {
    if ! is_safe; then echo unsafe; return; fi
    if is_aside; then echo unfinished; return; fi
    if [ ! -e "$path" ]; then echo absent; return; fi
    { printf '%s' "$key"; head -c 300000 "$path"; } | sha256sum | cut -d ' ' -f 1 | tr '\n' ' '
    stat -c %U:%G:%a "$path"
}
