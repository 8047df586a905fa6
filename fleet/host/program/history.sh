# --- serials, and what a host remembers of its transactions ----------------------------------------------
#
# Every transaction has a serial: a count, and a word that nobody can guess. A plan names the newest that it knows of, and
# begins only where there has been none since: not there and back either, and not on a host that was set up anew or restored.
# It is drawn when the transaction opens, and is on the disk before anything acts. That count is the highest that ever was:
# whatever else a full disk has lost, no serial comes twice.

# Find the serial of the newest transaction: of the open one, else of the last, unless the disk knows of one after that.
# Reading writes nothing: where there was none it is 0-none.
# sets: serial count folder
find_serial() {
    read -r serial _ 2>/dev/null <$record/serial || serial=
    is_serial "$serial" || serial=0-none
    count=${serial%%-*}
    for folder in $open $closed $record/last; do
        serial_of "$folder" || continue
        [ "${text%%-*}" -lt "$count" ] || serial=$text
        return
    done
}

# Let $text be the serial of the transaction in folder $1; fail where there is none. One without a number was made by an older
# program, after all that the disk knows of.
# sets: text
serial_of() {
    read_line "$1/serial"
    ! is_serial "$text" || return 0
    read_line "$1/run"
    [ -n "$text" ] && text=$((count + 1))-$text
}

is_serial() {
    case ${1%%-*} in '' | 0?* | *[!0-9]*) return 1 ;; esac
    case ${1#*-} in '' | "$1" | *[!0-9A-Za-z-]*) return 1 ;; esac
}

draw_serial() { next_serial; put_new serial "$serial"; }

# Let $serial be the one after the newest.
# sets: serial
next_serial() {
    find_serial
    random_word
    serial=$((${serial%%-*} + 1))-${word%%-*}
}
# Let $word be one that nobody can guess.
# sets: word
random_word() { read_line /proc/sys/kernel/random/uuid && word=$text; }

# Print what the profile names, and since when: who sets it by hand, there and back too, opens no transaction.
# sets: link
profile_link() { link=$(readlink $profile) && echo "${link##*/}@$(stat -c %.9Z $profile)" || echo -; }

# Enter the transaction that we are in into the history, which has the last 100, unless it is there. A full disk loses that
# entry and nothing else.
remember() { is_remembered || append_history "$(print_entry)"; }

# Let line $1 be the last of the history.
append_history() {
    {
        { { [ ! -e $record/history ] || old_history | tail -n 99; } && printf '%s\n' "$1"; } >$record/.history &&
            sync $record/.history && mv -f $record/.history $record/history
    } || rm -f $record/.history
}

# Print the history with no more than the last 20 withdrawals: those need no signature, and nobody hides behind a hundred of them
# what was done here.
old_history() {
    set -- "^([^$tab]*$tab){8}withdrawn$tab"
    { grep -nvE "$1" $record/history; grep -nE "$1" $record/history | tail -n 20; } | sort -n | cut -d : -f 2-
}

is_remembered() { grep -q "^[^$tab]*$tab$run$tab" $record/history 2>/dev/null; }

# Go to the transaction that ended last.
enter_last() { enter $closed || enter $record/last; }

# Print the transaction that we are in as a line of the history: fleet/host/history.py reads it.
print_entry() {
    find_serial
    for key in serial run who from since ended old new state blame part plan source intent reason ledger; do
        case $key in serial) serial_of . ;; reason) read_reason ;; *) read_line $key ;; esac
        case $key in who | from | source | intent | reason | ledger) printf '%.200s\n' "${text:--}" ;; *) printf '%s\n' "${text:--}" ;; esac
    done | tr '\000-\011\013-\037\177' '[ *]' | paste -s
}

# Let $text be the reason, and say that the reboot was forced where it was.
# sets: text
read_reason() { read_line reason; [ ! -e force ] || text="${text:+$text; }forced (--force)"; }

# Print the history, and after it the last transaction, where an older program or a full disk has kept it from there.
print_history() {
    cat $record/history 2>/dev/null
    ( enter_last && ! is_remembered && print_entry )
}

# Tell of all transactions since the one with serial $1; of all that are known where that is none of them.
# sets: known
history() {
    known=$(print_history | cut -f 1 | grep -nxF -e "${1-}" | tail -n 1 | cut -d : -f 1)
    print_history | tail -n "+$((${known:-0} + 1))" | sed 's/^/history=/'
}
