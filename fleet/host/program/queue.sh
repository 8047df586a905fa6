# --- waiting for a turn ---------------------------------------------------------------------------------
#
# Who cannot begin yet, since others are at work, may leave a ticket: a file in $queue with the name of its run. Its first line
# has its number, when it came, until when and when its waiter was heard last; its second line who asks, from where and what
# for. Where no transaction is open, the oldest living ticket has the turn, and nobody else begins. A ticket lives until its
# time is over, its waiter was silent for $patience seconds, or it had the turn for so long and has not begun. After a reboot
# nobody waits.

patience=30
most_tickets=200

# Let run $1 wait for its turn for $2 more seconds at most, asked for by $3 on machine $4, for purpose $5. Answer when it is its
# turn, or after some seconds: the controller asks again.
# sets: tries turn
queue() {
    is_count "$2" || refuse usage "'$2' is no number of seconds"
    lock_opening
    ! is_given_up "$1" || refuse closed "run $1 was given up"
    tend_queue
    [ -e "$queue/$1" ] || [ "$(find $queue -type f ! -name '.*' 2>/dev/null | wc -l)" -lt $most_tickets ] ||
        refuse locked "$most_tickets runs wait for their turn already"
    renew_ticket "$@" || refuse full "cannot write $queue"
    exec 9>&-                           # others may come and go meanwhile
    tries=10
    [ "$2" -ge $tries ] || tries=$2
    until find_first; [ "$first" = "$1" ] && ! find_open || [ "$tries" -eq 0 ]; do
        wait_for_others
        tries=$((tries - 1))
    done
    lock_opening
    tend_queue
    if [ "$first" = "$1" ] && ! find_open; then turn=yes; else turn=no; fi
    exec 9>&-                           # whoever does not read the answer holds nobody up
    answer turn $turn
    ! find_open || answer_open "$folder"
    answer_queue
}

# Write the ticket of run $1, which may be there: it keeps its number. The words are those of `queue`.
# sets: number came words
renew_ticket() {
    if ! read_ticket "$1"; then
        number=$((highest + 1)) came=$(date +%s)
        words=$(printf '%.200s\n' "$3" "$4" "$5" | tr '\000-\011\013-\037\177' '[ *]' | paste -s)
    fi
    mkdir -p $queue && printf '%s\n' "$number $came $((now + $2)) $now" "$words" >"$queue/.$1" && mv -f "$queue/.$1" "$queue/$1"
}

# Let these be what the ticket of run $1 says; fail where there is none.
# sets: number came until heard words
read_ticket() { { read -r number came until heard && IFS= read -r words; } 2>/dev/null <"$queue/$1"; }

# Succeed if the ticket that was read lives.
is_alive() { [ $((now - heard)) -le $patience ] && [ "$now" -lt "$until" ]; }

# Let $first be the run with the oldest living ticket, and $highest the highest number of a ticket.
# sets: first lowest highest ticket
find_first() {
    clock
    first='' lowest='' highest=0
    set +f
    for ticket in "$queue"/*; do
        ticket=${ticket##*/}
        if ! read_ticket "$ticket"; then continue; fi
        [ "$number" -le "$highest" ] || highest=$number
        if is_alive && { [ -z "$first" ] || [ "$number" -lt "$lowest" ]; }; then first=$ticket lowest=$number; fi
    done
    set -f
}

# Remove the tickets that do not live any more, and let $first be as `find_first` says. Whoever has the turn loses it where he
# does not begin. Call this with the lock of whoever opens a transaction.
# sets: first highest ticket holder since
tend_queue() {
    [ -d $queue ] || { first='' highest=0; clock; return 0; }
    clock
    set +f
    for ticket in "$queue"/*; do
        ticket=${ticket##*/}
        ! read_ticket "$ticket" || is_alive || rm -f "$queue/$ticket"
    done
    set -f
    find_first
    if [ -z "$first" ] || find_open; then rm -f $queue/.turn; return 0; fi
    holder='' since=''
    read -r holder since 2>/dev/null <$queue/.turn
    if [ "$holder" != "$first" ]; then
        echo "$first $now" >$queue/.turn
    elif [ $((now - since)) -gt $patience ]; then
        rm -f "$queue/$first" $queue/.turn
        tend_queue
    fi
}

# Wait until the open transaction enters another state, for about a second; where none is open, somebody is about to begin.
wait_for_others() {
    if find_open && enter "$folder"; then read_line state; wait_for_turn "$text"; else sleep 1; fi
}

# Refuse the order of a run that is not the one whose turn it is. Who goes back to what ran before waits for nobody, and neither
# does a person who switches by hand.
require_turn() {
    [ -d $queue ] || return 0
    if [ -e guarded ] || [ "$new" = "$(readlink $roots/previous)" ]; then return; fi
    tend_queue
    if [ -z "$first" ] || [ "$first" = "$run" ]; then return; fi
    ( decline locked "others wait for their turn, the oldest ticket is that of run $first" )
    exec 9>&-
    answer_queue
    exit 0
}

# Tell who waits: number, run, when it came, seconds that it waits on, and who asks, from where and what for.
# sets: ticket
answer_queue() {
    [ -d $queue ] || return 0
    clock
    set +f
    for ticket in "$queue"/*; do
        ticket=${ticket##*/}
        ! read_ticket "$ticket" || ! is_alive ||
            printf 'waiting=%s\t%s\t%s\t%s\t%s\n' "$number" "$ticket" "$came" $((until - now)) "$words"
    done
    set -f
}
